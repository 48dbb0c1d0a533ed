import { defineConfig } from 'vitest/config'

/** Unit tests that start processes. */
const PROCESS_UNITS = ['src/backends/process/**/*.test.ts', 'src/worker/command-attempt.test.ts']

export default defineConfig({
  test: {
    pool: 'forks',
    // Files that follow one another in a process share its modules: loading them anew for each costs as much as the tests themselves.
    isolate: false,
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // `retry` is for real processes on a machine that others may load: a second try is said in the report, and belongs in docs/flakes.md.
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['src/**/*.test.ts', 'examples/**/*.test.ts'], exclude: PROCESS_UNITS },
      },
      { extends: true, test: { name: 'processes', include: PROCESS_UNITS, retry: 1 } },
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
