// `npm run check`: everything that needs no server, before each commit. `-- --only NAME` runs one check, -v shows all output.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { isGood, renderResult, renderTotal } from './report.ts'
import { ROOT, runTwoAtOnce, type Stage, type StageResult } from './stage.ts'
import { CHECKS } from './stages.ts'

/** Runs the checks two at a time; prints each as it ends, with the output of those that fail. */
export async function runChecks(stages: readonly Stage[], { verbose }: { verbose: boolean }): Promise<StageResult[]> {
  const there = stages.filter((s) => s.requires === undefined || existsSync(join(ROOT, s.requires)))
  return runTwoAtOnce(there, {
    ended: (result) => {
      if (verbose || !isGood(result)) process.stdout.write(`${result.output.trimEnd()}\n`)
      process.stdout.write(`${renderResult(result)}\n`)
    },
  })
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { only: { type: 'string' }, verbose: { type: 'boolean', short: 'v', default: false } },
  })
  const chosen = CHECKS.filter((s) => values.only === undefined || s.name === values.only)
  if (chosen.length === 0) {
    process.stderr.write(`No check is called ${values.only}. There are: ${CHECKS.map((s) => s.name).join(', ')}.\n`)
    process.exit(2)
  }
  const results = await runChecks(chosen, values)
  process.stdout.write(`${renderTotal(results)}\n`)
  process.exitCode = results.every(isGood) ? 0 : 1
}
