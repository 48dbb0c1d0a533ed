import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { parse } from 'yaml'

const SUITE = createRequire(import.meta.url).resolve('@modelcontextprotocol/conformance/dist/index.js')
const run = promisify(execFile)

export type Side = 'client' | 'server'

/** Runs the suite; that checks failed is in what it leaves, and no error here. */
export async function runSuite(args: string[]): Promise<void> {
  await run(process.execPath, [SUITE, ...args], { maxBuffer: 64 * 1024 * 1024 }).catch((error: unknown) => {
    // It ends with 1 when a check failed; anything else is its own failure.
    if (!(error instanceof Error && 'code' in error && error.code === 1)) throw error
  })
}

/** Names of all scenarios of a side, as the suite lists them. */
export async function scenariosOf(side: Side): Promise<string[]> {
  const { stdout } = await run(process.execPath, [SUITE, 'list', `--${side}`])
  return stdout.split('\n').flatMap((line) => /^ {2}- (\S+) \[/.exec(line)?.[1] ?? [])
}

/** Ids of the checks of a scenario that failed, from what the suite left below a folder; null when it did not run. */
export async function failedChecks(folder: string, scenario: string): Promise<string[] | null> {
  const paths = await readdir(folder, { recursive: true }).catch(() => [])
  const isOf = (path: string) =>
    new RegExp(`^(server-)?${scenario}-\\d{4}-\\d\\d-\\d\\dT[^/]+/checks\\.json$`).test(path)
  const path = paths.find(isOf)
  if (path === undefined) return null
  const checks = JSON.parse(await readFile(join(folder, path), 'utf8')) as { id: string; status: string }[]
  return [...new Set(checks.filter(({ status }) => status === 'FAILURE').map(({ id }) => id))].sort()
}

interface Expected {
  scenarios: Record<string, string[]>
  why: string
  /** A day; from then on it is looked at anew. */
  until: string
}

/** What is known to fail, by scenario: which checks, why, and until when that is taken. */
export async function expectedFailures(side: Side) {
  const text = await readFile(join(import.meta.dirname, 'expected-failures.yaml'), 'utf8')
  const groups = (parse(text) as Record<Side, Expected[]>)[side]
  return new Map(
    groups.flatMap(({ scenarios, why, until }) =>
      Object.entries(scenarios).map(([name, checks]) => [name, { checks: [...checks].sort(), why, until }] as const),
    ),
  )
}
