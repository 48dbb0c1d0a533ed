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

/** Unit tests that load whole databases or feed monsters to the parser: for `verify`, so that `check` stays quick. */
const SLOW_UNITS = [
  'src/agents/gateway/wire-formats.test.ts',
  'src/api/access-matrix.test.ts',
  'src/api/create-api.test.ts',
  'src/api/mcp/**/*.test.ts',
  'src/api/resources.test.ts',
  'src/cli/commands/resources.test.ts',
  'src/domain/manifest.test.ts',
  'src/engine/agents/**/*.test.ts',
  'src/engine/bind.test.ts',
  'src/engine/children.test.ts',
  'src/engine/dispatcher.test.ts',
  'src/engine/every-step.test.ts',
  'src/engine/memory/**/*.test.ts',
  'src/engine/parked.test.ts',
  'src/engine/resources/**/*.test.ts',
  'src/engine/secrets.test.ts',
  'src/engine/ticks.test.ts',
  'src/store/budgets/budgets.test.ts',
  'src/store/journal/journal.test.ts',
  'src/store/memory/**/*.test.ts',
  'src/store/resources/resources.test.ts',
  'src/store/store.test.ts',
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
