import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      { extends: true, test: { name: 'unit', include: ['src/**/*.test.ts', 'examples/**/*.test.ts'] } },
      {
        extends: true,
        test: {
          name: 'whole',
          include: ['test/**/*.test.ts'],
          globalSetup: ['test/support/global-postgres.ts'],
          // Real processes on a machine that others may load: a second try is said in the report, and belongs in docs/flakes.md.
          retry: 1,
        },
      },
    ],
  },
})
