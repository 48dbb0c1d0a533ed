import type { Stage } from './stage.ts'

const MINUTE_MS = 60_000

const check = (name: string, command: string[], requires?: string): Stage => ({
  name,
  command,
  reporter: 'exit',
  boundMs: 2 * MINUTE_MS,
  ...(requires === undefined ? {} : { requires }),
})

/** What `npm run check` runs, two at a time. */
export const CHECKS: readonly Stage[] = [
  {
    name: 'unit',
    command: ['vitest', 'run', '--project=unit', 'src/'],
    reporter: 'vitest',
    boundMs: 3 * MINUTE_MS,
  },
  check('format', ['oxfmt', '--check']),
  check('types', ['tsc']),
  check('lint', ['oxlint', '--type-aware', '--deny-warnings']),
  check('dead code', ['knip', '--no-progress', '--no-config-hints']),
  check('docs/failures.md is fresh', ['node', 'scripts/write-failures.ts', '--check']),
  check('openapi.json is fresh', ['node', 'scripts/write-openapi.ts', '--check'], 'scripts/write-openapi.ts'),
  check('diagrams are fresh', ['node', 'scripts/write-diagrams.ts', '--check']),
  check('docs/reference is fresh', ['node', 'scripts/write-reference.ts', '--check']),
  check('docs/assets is fresh', ['node', 'scripts/record-terminal.ts', '--check']),
  check('schema.txt is fresh', ['node', 'scripts/write-schema.ts', '--check'], 'scripts/write-schema.ts'),
]

/** In one process: verify runs two suites at once, one for each core, and most of them have one file that takes longer than all others. */
const ONE_PROCESS = '--maxWorkers=1'

const suite = (name: string, folder: string, boundMs: number, env: Record<string, string> = {}): Stage => ({
  name,
  command: ['vitest', 'run', ONE_PROCESS, `${folder}/`],
  reporter: 'vitest',
  boundMs,
  requires: folder,
  env,
})

/** What `npm run verify` runs after the checks, two at a time: the longest first. */
export const SUITES: readonly Stage[] = [
  suite('scenarios', 'test/scenarios', 20 * MINUTE_MS),
  suite('e2e', 'test/e2e', 15 * MINUTE_MS),
  suite('sim', 'test/sim', 8 * MINUTE_MS, { ORRERY_SIM_SEEDS: '20' }),
  suite('chaos', 'test/chaos', 8 * MINUTE_MS),
  {
    name: 'slow units',
    command: ['vitest', 'run', ONE_PROCESS, '--project=slow units', '--project=processes'],
    reporter: 'vitest',
    boundMs: 8 * MINUTE_MS,
  },
  suite('property', 'test/property', 8 * MINUTE_MS),
  suite('mutation', 'test/mutation', 6 * MINUTE_MS),
  suite('conformance', 'test/conformance', 8 * MINUTE_MS),
  suite('examples', 'examples', 4 * MINUTE_MS),
  suite('support', 'test/support', 2 * MINUTE_MS),
  suite('postgres', 'test/postgres', 4 * MINUTE_MS),
  {
    name: 'quickstart',
    command: ['node', 'scripts/quickstart.ts'],
    reporter: 'exit',
    boundMs: 2 * MINUTE_MS,
    requires: 'scripts/quickstart.ts',
  },
  suite('real model', 'test/real-model', 2 * MINUTE_MS),
]
