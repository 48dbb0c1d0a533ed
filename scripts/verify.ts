// `npm run verify`: all that can be tested on this machine. Brings PostgreSQL where it may, runs the checks, then every suite, two
// at a time. The last line says how many passed, failed and were skipped. `-- --only NAME` runs one stage, -v shows all output.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { findPostgres } from '../test/support/postgres.ts'
import { findRealModel, installRealModel } from '../test/real-model/install.ts'
import { runChecks } from './check.ts'
import { installPackage, mayInstall } from './install-package.ts'
import { isGood, renderResult, renderTotal } from './report.ts'
import { ROOT, runTwoAtOnce, type StageResult } from './stage.ts'
import { CHECKS, SUITES } from './stages.ts'

const say = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

/** `promtool`, which checks the metrics, where it is ours to install. Not worth a second try: a parser of our own checks them too. */
async function bringPromtool(): Promise<void> {
  const isThere = () => spawnSync('promtool', ['--version']).status === 0
  if (!isThere() && mayInstall()) {
    say('Installing promtool…')
    await installPackage('prometheus', { tries: 1 })
  }
  if (!isThere()) say('There is no promtool: the metrics are checked by a parser of our own alone.')
}

/** `bwrap`, which tools are kept apart by, where it is ours to install. Without it the tests of sandboxes are skipped, by name. */
async function bringBubblewrap(): Promise<void> {
  const isThere = () => spawnSync('bwrap', ['--version']).status === 0
  if (!isThere() && mayInstall()) {
    say('Installing bubblewrap…')
    await installPackage('bubblewrap', { tries: 2 })
  }
  if (!isThere()) say('There is no bwrap (package bubblewrap): tests of sandboxes are skipped, by name.')
}

/** Installs the PostgreSQL server where that is ours to do; elsewhere says what to install. */
async function bringPostgres(): Promise<void> {
  if (findPostgres().kind === 'missing' && mayInstall()) {
    say('Installing the PostgreSQL server…')
    await installPackage('postgresql', { tries: 3 })
  }
  const found = findPostgres()
  if (found.kind === 'found') say(`PostgreSQL ${found.version}: ${found.bin}`)
  else say(`${found.reason} Tests that need it are skipped, by name, below.`)
}

/** A real engine for models; only its own tests need it. */
function bringRealModel(): void {
  if (findRealModel().kind === 'missing') say('Installing an engine for models…')
  const found = installRealModel()
  if (found.kind === 'missing') say(`${found.reason}. Tests that need it are skipped, by name, below.`)
}

const { values } = parseArgs({
  options: { only: { type: 'string' }, verbose: { type: 'boolean', short: 'v', default: false } },
})
const isChosen = (stage: { name: string }) => values.only === undefined || stage.name === values.only
const checks = CHECKS.filter(isChosen)
const suites = SUITES.filter((s) => isChosen(s) && (s.requires === undefined || existsSync(join(ROOT, s.requires))))
if (checks.length + suites.length === 0) {
  const names = [...CHECKS, ...SUITES].map((s) => s.name).join(', ')
  process.stderr.write(`No stage is called ${values.only}, or its folder is not there. There are: ${names}.\n`)
  process.exit(2)
}

await bringPostgres()
await bringBubblewrap()
await bringPromtool()
if (suites.some(({ name }) => name === 'real model')) bringRealModel()
const results: StageResult[] = await runChecks(checks, values)
const suiteResults = await runTwoAtOnce(suites, {
  maySkipAll: findPostgres().kind === 'missing',
  began: ({ name }) => say(`──    ${name} begins`),
  ended: (result) => {
    if (values.verbose || !isGood(result)) say(`\n── ${result.name}\n${result.output.trimEnd()}`)
    say(renderResult(result))
  },
})
results.push(...suiteResults)
say('\n── summary')
for (const result of results) say(renderResult(result))
say('')
say(renderTotal(results))
process.exitCode = results.every(isGood) ? 0 : 1
