/**
 * npm run quickstart [-- PATH] [--model M] [--json]: runs examples/repo-report on a git repository (this one by default) through the real
 * CLI with the embedded store in .orrery/ (or ORRERY_DATA_DIR), and says where the reports are. What was reported already is not run again. The
 * exit code is the run's.
 */
import { spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { gitOrNull, gitRecords } from '../examples/repo-report/git.ts'
import { type ChosenModel, chooseModel } from './quickstart-model.ts'

const ROOT = join(import.meta.dirname, '..')
const EXAMPLE = join(ROOT, 'examples', 'repo-report')
const DATA_DIR = resolve(process.env['ORRERY_DATA_DIR'] || join(ROOT, '.orrery'))

const { repo, asJson, modelName } = readArguments()
/** With --json the CLI alone writes to the standard output. */
const say = (text: string) => (asJson ? process.stderr : process.stdout).write(`${text}\n`)

const state = await stateOf(repo)
const out = join(DATA_DIR, 'quickstart', `${basename(repo) || 'root'}-${state.slice(0, 12)}`)
const reports = { Markdown: join(out, 'report.md'), HTML: join(out, 'report.html') }
const keyFile = join(out, 'key')
const doneFile = join(out, 'done')
const model = chosenModel()
const hasReports = () => Object.values(reports).every((path) => existsSync(path))

const ended = await runOnce()
sayHowItEnded(ended)
process.exitCode = ended.exitCode

interface Ended {
  exitCode: number
  seconds: number
  wasDone: boolean
}

/** Ends with what is wrong when it is not to be had. */
function chosenModel(): ChosenModel {
  try {
    mkdirSync(out, { recursive: true })
    return chooseModel(modelName, { out, scripted: join(EXAMPLE, 'scripted-model.yaml'), env: process.env })
  } catch (error) {
    return refuse(error)
  }
}

function refuse(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.stderr.write('Usage: npm run quickstart -- [PATH] [--model anthropic|openai|google|FILE] [--json]\n')
  process.exit(2)
}

function readArguments(): { repo: string; asJson: boolean; modelName: string | undefined } {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      // The bootstrap reads -v; it means nothing here.
      options: {
        json: { type: 'boolean', default: false },
        model: { type: 'string' },
        verbose: { type: 'boolean', short: 'v', default: false },
      },
    })
    if (positionals.length > 1) throw new Error(`One repository at a time, not ${positionals.length}.`)
    return { repo: resolve(positionals[0] ?? ROOT), asJson: values.json, modelName: values.model }
  } catch (error) {
    return refuse(error)
  }
}

/** Changes with whatever the report is made from: the commit, what is not committed, and the workflow with its functions. */
async function stateOf(repository: string): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([repository, modelName ?? null]))
  for (const name of readdirSync(EXAMPLE).sort()) {
    if (/\.(ts|yaml)$/.test(name) && !name.endsWith('.test.ts')) hash.update(readFileSync(join(EXAMPLE, name)))
  }
  const options = { repo: repository }
  const top = await gitOrNull(options, 'rev-parse', '--show-toplevel').catch(() => null)
  // The workflow itself says what is wrong with a path that is no repository.
  if (top === null) return hash.digest('hex')
  const inTop = { repo: top }
  hash.update(JSON.stringify([await gitOrNull(inTop, 'rev-parse', '--verify', '--quiet', 'HEAD')]))
  hash.update(JSON.stringify([await gitOrNull(inTop, 'symbolic-ref', '--quiet', 'HEAD')]))
  for await (const entry of gitRecords(inTop, ['ls-files', '-z', '--stage'])) hash.update(`${entry}\0`)
  for await (const path of gitRecords(inTop, ['ls-files', '-z', '--modified', '--others', '--exclude-standard'])) {
    const found = lstatSync(join(top, path), { throwIfNoEntry: false })
    hash.update(JSON.stringify([path, found?.size, found?.mtimeMs]))
  }
  return hash.digest('hex')
}

/**
 * The idempotency key lies beside the reports: a call with the same key finds the same run, also one that was cut off and is
 * carried on. Removing the directory or a report, or a run that failed, makes the next call begin anew.
 */
function idempotencyKey(): string {
  mkdirSync(out, { recursive: true })
  if (existsSync(doneFile) && !hasReports()) rmSync(keyFile, { force: true })
  if (!existsSync(keyFile)) writeFileSync(keyFile, `quickstart-${state.slice(0, 32)}-${randomUUID()}`)
  return readFileSync(keyFile, 'utf8')
}

async function runOnce(): Promise<Ended> {
  const madeBefore = hasReports() ? statSync(reports.HTML).mtimeMs : null
  const started = performance.now()
  const command = [join(ROOT, 'src', 'app', 'main.ts'), 'run', join(EXAMPLE, 'workflow.yaml'), '-f', model.file]
  const flags = [
    '--store',
    'embedded',
    '--data-dir',
    DATA_DIR,
    '--idempotency-key',
    idempotencyKey(),
    // The workflow asks before it keeps the reports.
    '--yes',
    ...(asJson ? ['--json'] : []),
  ]
  const inputs = ['--input', `repo=${repo}`, '--input', `out=${out}`, '--input', `writer=${model.writer}`]
  say(model.note)
  const { code, signal } = await waitFor([...command, ...inputs, ...flags])
  // A run that was killed goes on with its key; one that ended badly is not to be found again.
  if (code === 0) writeFileSync(doneFile, '')
  else if (code !== null) rmSync(keyFile, { force: true })
  return {
    exitCode: code ?? 128 + (signal === null ? 0 : constants.signals[signal]),
    seconds: (performance.now() - started) / 1_000,
    wasDone: code === 0 && madeBefore !== null && hasReports() && statSync(reports.HTML).mtimeMs === madeBefore,
  }
}

function waitFor(command: string[]): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  const child = spawn(process.execPath, command, { cwd: ROOT, stdio: 'inherit', env: { ...process.env, ...model.env } })
  const forward = (signal: NodeJS.Signals) => {
    // A terminal sends ^C to the CLI as well; a second one would mean "at once".
    if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal)
  }
  process.on('SIGINT', forward).on('SIGTERM', forward)
  return new Promise((settle, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      process.off('SIGINT', forward).off('SIGTERM', forward)
      settle({ code, signal })
    })
  })
}

function sayHowItEnded({ exitCode, seconds, wasDone }: Ended): void {
  const took = `${seconds.toFixed(1)} s`
  if (exitCode !== 0) {
    const next = existsSync(keyFile) ? 'carries on' : 'tries anew'
    say(`\nThe report on ${repo} did not succeed (exit code ${exitCode}, ${took}). The next call ${next}.`)
    return
  }
  say(wasDone ? `\nSkipped: ${repo} was reported in this state before (${took}).` : `\nReported ${repo} in ${took}.`)
  for (const [name, path] of Object.entries(reports)) say(`  ${name.padEnd(8)}  ${path}`)
}
