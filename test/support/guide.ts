// Runs a guide: the blocks of a page that say `file=NAME`, `start`, `run` or `output`, in their order, as a reader would.
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { type OrreryProcess, startOrrery } from './processes.ts'
import { freePort } from './free-port.ts'

const ROOT = join(import.meta.dirname, '..', '..')

export type Block =
  | { kind: 'file'; line: number; path: string; text: string }
  /** A process that goes on: `orrery up`. */
  | { kind: 'start'; line: number; text: string }
  /** `output`: what it must print; null when the guide does not say. */
  | { kind: 'run'; line: number; text: string; output: string | null }

const FENCE = /^```(\w+) (.+)$/

/** The blocks that are meant to be run; all others are only read. */
export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = []
  const lines = markdown.split('\n')
  for (let i = 0; i < lines.length; i++) {
    const [, , info] = FENCE.exec(lines[i] ?? '') ?? []
    if (info === undefined) continue
    const line = i + 1
    const end = lines.indexOf('```', line)
    const text = `${lines.slice(line, end).join('\n')}\n`
    i = end
    const path = /^file=(\S+)$/.exec(info)?.[1]
    if (path !== undefined) blocks.push({ kind: 'file', line, path, text })
    else if (info === 'start') blocks.push({ kind: 'start', line, text: text.trim() })
    else if (info === 'run') blocks.push({ kind: 'run', line, text, output: null })
    else if (info === 'output') {
      const last = blocks.at(-1)
      if (last?.kind !== 'run') throw new Error(`line ${line}: there is no command of which this is the output`)
      last.output = text
    } else throw new Error(`line ${line}: ${info} is not known`)
  }
  return blocks
}

/** What differs from run to run is made equal: ids, times, ports, blanks between columns. */
function steady(text: string): string {
  return text
    .replaceAll(/\b(run|apr|evt|wrk|tok)_[0-9a-z]{26}\b/g, '$1_ID')
    .replaceAll(/\b\d{4}-\d\d-\d\dT[\d:.]+Z\b/g, 'TIME')
    .replaceAll(/\b\d\d:\d\d:\d\d(?:\.\d+)?\b/g, 'CLOCK')
    .replaceAll(/\b\d+(?:\.\d+)? ?(?:ms|s)\b/g, 'DURATION')
    .replaceAll(/127\.0\.0\.1:\d+/g, 'ADDRESS')
    .replaceAll(/[^\S\n]+/g, ' ')
    .replaceAll(/ $/gm, '')
    .trim()
}

/** `…` stands for any text, on a line of its own for any lines. */
export function fits(printed: string, wanted: string): boolean {
  const pattern = steady(wanted)
    .split('\n')
    .map((line) =>
      line.trim() === '…'
        ? '(?:.*\\n)*?'
        : `${line
            .split('…')
            .map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
            .join('.*')}\\n`,
    )
    .join('')
  return new RegExp(`^${pattern}$`).test(`${steady(printed)}\n`)
}

export interface Ran {
  line: number
  /** Null: as the guide says. */
  problem: string | null
}

/** Runs all blocks in a directory of their own with a home of their own. Stops at the first that does not do what the guide says. */
export async function runGuide(path: string): Promise<Ran[]> {
  const home = await mkdtemp(join(tmpdir(), 'orrery-guide-'))
  const project = join(home, 'project')
  const env = {
    HOME: home,
    PATH: `${join(home, 'bin')}:${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
    NO_COLOR: '1',
    COLUMNS: '120',
    ORRERY_PORT: String(await freePort()),
    // The package as it is in a checkout, where nothing is built.
    NODE_OPTIONS: '--conditions=orrery-source',
  }
  const servers: OrreryProcess[] = []
  const ran: Ran[] = []
  try {
    await mkdir(join(project, 'node_modules'), { recursive: true })
    await mkdir(join(home, 'bin'))
    await symlink(ROOT, join(project, 'node_modules', 'orrery'))
    await symlink(join(ROOT, 'node_modules', 'zod'), join(project, 'node_modules', 'zod'))
    await writeFile(join(project, 'package.json'), '{"type":"module"}\n')
    const orrery = `#!/bin/sh\nexec '${process.execPath}' '${join(ROOT, 'bin', 'orrery.mjs')}' "$@"\n`
    await writeFile(join(home, 'bin', 'orrery'), orrery, { mode: 0o755 })
    for (const block of blocksOf(await readFile(path, 'utf8'))) {
      let problem: string | null = null
      if (block.kind === 'file') {
        await mkdir(dirname(join(project, block.path)), { recursive: true })
        await writeFile(join(project, block.path), block.text)
      } else if (block.kind === 'start') {
        const words = block.text.split(/\s+/)
        const at = words.indexOf('orrery')
        // What stands before the command is its environment, as a shell has it.
        const own = Object.fromEntries(words.slice(0, at).map((word) => word.split('=', 2)))
        const server = startOrrery(words.slice(at + 1), { env: { ...env, ...own }, cwd: project })
        servers.push(server)
        await server.waitFor(/orrery is up|takes work from/, { withinMs: 50_000 })
      } else {
        const text = block.text.replaceAll('127.0.0.1:7780', `127.0.0.1:${env.ORRERY_PORT}`)
        const { code, output } = await runShell(text, { env, home, project })
        if (block.output === null) problem = code === 0 ? null : `ended with ${code}:\n${output}`
        else if (!fits(output, block.output)) problem = `printed (exit ${code}):\n${output}`
      }
      ran.push({ line: block.line, problem })
      if (problem !== null) break
    }
  } finally {
    for (const server of servers.toReversed()) await server.stop()
    await rm(home, { recursive: true, force: true, maxRetries: 5 })
  }
  return ran
}

/** Variables that a block exports are there in the following ones, as in one terminal. */
function runShell(
  text: string,
  { env, home, project }: { env: Record<string, string>; home: string; project: string },
): Promise<{ code: number | null; output: string }> {
  const kept = join(home, 'exports')
  const script = `[ -e ${kept} ] && . ${kept}\n${text}\ncode=$?\nexport -p > ${kept}\nexit $code\n`
  const child = spawn('bash', ['-c', script], { cwd: project, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const take = (chunk: string) => (output += chunk)
  child.stdout.setEncoding('utf8').on('data', take)
  child.stderr.setEncoding('utf8').on('data', take)
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, output }))
  })
}
