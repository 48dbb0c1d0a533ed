import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { renderResult, renderTotal } from '../../scripts/report.ts'
import { eventually } from './eventually.ts'
import { ROOT, runStage, type Stage } from '../../scripts/stage.ts'

const FOREVER = 'setInterval(() => {}, 1000)'
/** Starts a process that is in no group of its parent's and lives on. */
const DETACH = `require('node:child_process').spawn(process.execPath, ['-e', '${FOREVER}'], { detached: true, stdio: 'ignore' }).unref()`

const program = (code: string, boundMs = 30_000): Stage => ({
  name: 'a program',
  command: [process.execPath, '-e', code],
  reporter: 'exit',
  boundMs,
})

describe('a stage', () => {
  test('is one check that passed or failed by its exit code', async () => {
    expect(await runStage(program('console.log("said")'))).toMatchObject({ passed: 1, failed: 0, output: 'said\n' })
    expect(await runStage(program('process.exit(3)'))).toMatchObject({ passed: 0, failed: 1 })
  })

  test('that is over its bound is ended with everything it started', async () => {
    const result = await runStage(program(`${DETACH}; ${FOREVER}`, 1_000))
    expect(result).toMatchObject({ passed: 0, failed: 1, complaints: ['was ended at its bound of 1 s'] })
  })

  test('that leaves a process behind has failed, and the process is ended', async () => {
    const { failed, complaints } = await runStage(program(DETACH))
    expect(failed).toBe(1)
    expect(complaints.join()).toContain('left processes behind')
    const pid = Number(/behind: (\d+)/.exec(complaints.join())?.[1])
    // The command line of a zombie, which its new parent has not yet looked at, is empty.
    const isGone = () => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/cmdline`, 'utf8') === ''
    await eventually(isGone, { withinMs: 40_000 })
  })

  test('whose program is not there has failed, and says so', async () => {
    const result = await runStage({ ...program(''), command: ['no-such-program-here'] })
    expect(result).toMatchObject({ passed: 0, failed: 1 })
    expect(result.output).toContain('ENOENT')
  })
})

describe('a stage of tests', () => {
  mkdirSync(join(ROOT, '.cache'), { recursive: true })
  const folder = mkdtempSync(join(ROOT, '.cache', 'stage-test-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  const suite = (name: string, text: string): Stage => {
    writeFileSync(join(folder, `${name}.test.ts`), text)
    writeFileSync(join(folder, 'vitest.config.ts'), `export default { test: { include: ['*.test.ts'] } }`)
    return {
      name,
      command: ['vitest', 'run', '--root', folder, name],
      reporter: 'vitest',
      boundMs: 60_000,
      env: { PATH: `${join(ROOT, 'node_modules', '.bin')}:${process.env['PATH'] ?? ''}` },
    }
  }

  test('is counted test by test, and what was skipped is named', async () => {
    const { passed, failed, skipped, skippedNames } = await runStage(
      suite(
        'mixed',
        `import { expect, test } from 'vitest'
         test('one', () => {}); test('two', () => {}); test('wrong', () => expect(1).toBe(2)); test.skipIf(true)('needs a moon', () => {})`,
      ),
    )
    expect({ passed, failed, skipped, skippedNames }).toEqual({
      passed: 2,
      failed: 1,
      skipped: 1,
      skippedNames: ['needs a moon'],
    })
  })

  test('names each test that needed its second try, with what it said at the first', async () => {
    const stage = suite(
      'flaky',
      `import { expect, test } from 'vitest'
       let tries = 0
       test('settles', { retry: 1 }, () => expect(++tries).toBe(2)); test('is steady', () => {})`,
    )
    const result = await runStage(stage)
    expect(result).toMatchObject({ passed: 2, failed: 0 })
    expect(result.retried).toEqual([expect.stringMatching(/flaky\.test\.ts > settles: .*expected 1 to be 2/)])
    expect(renderResult(result)).toMatch(/\n +passed at its second try: .*settles/)
  })

  test('whose file does not load has failed', async () => {
    expect(await runStage(suite('broken', `throw new Error('no')`))).toMatchObject({ passed: 0, failed: 1 })
  })

  test('that has no test has failed', async () => {
    const result = await runStage({
      ...suite('present', ''),
      command: [...suite('present', '').command.slice(0, -1), 'absent'],
    })
    expect(result.failed).toBe(1)
    expect(result.complaints).toContain('ran no test')
  })
})

test('the closing line adds up all stages', () => {
  const stage = { name: '', durationMs: 0, output: '', complaints: [], skippedNames: [], retried: [] }
  const line = renderTotal([
    { ...stage, passed: 3, failed: 1, skipped: 0 },
    { ...stage, passed: 4, failed: 0, skipped: 2 },
  ])
  expect(line).toBe('7 passed, 1 failed, 2 skipped')
})
