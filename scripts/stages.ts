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

const suite = (name: string, folder: string, boundMs: number, env: Record<string, string> = {}): Stage => ({
  name,
  command: ['vitest', 'run', `${folder}/`],
  reporter: 'vitest',
  boundMs,
  requires: folder,
  env,
})

/** What `npm run verify` runs after the checks, one after another. */
export const SUITES: readonly Stage[] = [
  {
    name: 'slow units',
    command: ['vitest', 'run', '--project=slow units', '--project=processes'],
    reporter: 'vitest',
    boundMs: 6 * MINUTE_MS,
  },
  suite('support', 'test/support', 2 * MINUTE_MS),
  suite('postgres', 'test/postgres', 4 * MINUTE_MS),
  suite('real model', 'test/real-model', 2 * MINUTE_MS),
  suite('conformance', 'test/conformance', 8 * MINUTE_MS),
  suite('scenarios', 'test/scenarios', 12 * MINUTE_MS),
  suite('sim', 'test/sim', 6 * MINUTE_MS, { ORRERY_SIM_SEEDS: '20' }),
  suite('mutation', 'test/mutation', 5 * MINUTE_MS),
  suite('chaos', 'test/chaos', 5 * MINUTE_MS),
  suite('property', 'test/property', 6 * MINUTE_MS),
  suite('e2e', 'test/e2e', 10 * MINUTE_MS),
  suite('examples', 'examples', 3 * MINUTE_MS),
  {
    name: 'quickstart',
    command: ['node', 'scripts/quickstart.ts'],
    reporter: 'exit',
    boundMs: 2 * MINUTE_MS,
    requires: 'scripts/quickstart.ts',
  },
]
