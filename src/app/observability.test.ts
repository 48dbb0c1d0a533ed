import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { parseExposition } from '../telemetry/exposition.ts'
import { eventually } from '../../test/support/eventually.ts'
import { openObservability } from './observability.ts'

const dir = mkdtempSync(join(tmpdir(), 'orrery-observability-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

test('a process tells how late its event loop was, and how many lines it could not write', async () => {
  // What stands where the file would be cannot be written to.
  mkdirSync(join(dir, 'server.log'))
  const files = { dir, maxBytes: 1_000_000, keep: 1 }
  const observability = openObservability({
    of: 'server',
    format: 'json',
    level: 'info',
    files,
    toStderr: false,
    env: { OTEL_SDK_DISABLED: 'true' },
  })
  const valueOf = async (name: string) =>
    parseExposition(await observability.prometheus.source.metrics()).get(name)?.samples[0]?.value
  expect(await valueOf('orrery_log_lines_dropped_total')).toBe(0)
  observability.logOf('server').warn('a line', {})
  await eventually(async () => (await valueOf('orrery_log_lines_dropped_total')) === 1, { withinMs: 10_000 })
  // Holds the thread as a function without an await would: longer than the time from one look at the clock to the next.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500)
  await eventually(async () => ((await valueOf('orrery_event_loop_lag_seconds')) ?? 0) > 0.1, { withinMs: 10_000 })
  await observability.close()
})
