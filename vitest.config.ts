import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineConfig } from 'vitest/config'

/** Unit tests that start processes. */
const PROCESS_UNITS = [
  'src/agents/tools/{command,grpc,wasm}-driver.test.ts',
  'src/agents/mcp/**/*.test.ts',
  'src/cli/commands/mcp.test.ts',
  'src/backends/process/**/*.test.ts',
  'src/cli/commands/tool.test.ts',
  'src/worker/command-attempt.test.ts',
]

/** Unit tests that open a database, which `check` has no time for: known by what they import, so that none is forgotten on a list. */
const DATABASE_UNITS = globSync('src/**/*.test.ts', { cwd: import.meta.dirname }).filter((path) =>
  /from '.*(?:testing\/(?:rig|embedded)\.ts|pglite)'/.test(readFileSync(join(import.meta.dirname, path), 'utf8')),
)

/** What else takes long. */
const SLOW_UNITS = [
  ...DATABASE_UNITS,
  'src/agents/gateway/wire-formats.test.ts',
  'src/api/create-api.test.ts',
  'src/api/mcp/**/*.test.ts',
  'src/domain/manifest.test.ts',
  'src/worker/agent-attempt.test.ts',
]

export default defineConfig({
  test: {
    pool: 'forks',
    // Files that follow one another in a process share its modules: loading them anew for each costs as much as the tests themselves.
    isolate: false,
    maxWorkers: 2,
    // Nothing takes this long unless it fails, or the machine is loaded many times over.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // `retry` is for real processes on a machine that others may load: a second try is said in the report, and belongs in docs/flakes.md.
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'examples/**/*.test.ts'],
          exclude: [...PROCESS_UNITS, ...SLOW_UNITS],
        },
      },
      { extends: true, test: { name: 'slow units', include: SLOW_UNITS } },
      // Each in a process of its own: some measure how much memory theirs took.
      { extends: true, test: { name: 'processes', include: PROCESS_UNITS, isolate: true, retry: 1 } },
      {
        extends: true,
        test: {
          name: 'whole',
          include: ['test/**/*.test.ts'],
          globalSetup: ['test/support/global-postgres.ts'],
          retry: 1,
        },
      },
    ],
  },
})
