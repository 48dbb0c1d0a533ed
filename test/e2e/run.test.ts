// `orrery run FILE` on the embedded store, as somebody types it.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectNoProcessLeft, runOrrery } from '../support/processes.ts'

const FLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: flow }
spec:
  modules: { m: ./m.ts }
  inputs:
    type: object
    required: [code]
    additionalProperties: false
    properties: { code: { type: integer } }
  steps:
    - name: hello
      function: m.hello
      with: { name: Ada }
    - name: leave
      needs: [hello]
      command: ['sh', '-c', 'echo "\${{ steps.hello.output.text }}"; echo wrong >&2; exit \${{ inputs.code }}']
    - name: last
      needs: [leave]
      command: ['true']
`

describe('orrery run', () => {
  let home = ''
  const run = (args: string[], stdin?: string) =>
    runOrrery(['run', ...args, '--data-dir', join(home, 'data')], {
      cwd: home,
      ...(stdin === undefined ? {} : { stdin }),
    })

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'orrery-e2e-'))
    await writeFile(join(home, 'flow.yaml'), FLOW)
    await writeFile(
      join(home, 'm.ts'),
      'export const hello = (input: { name: string }) => ({ text: `hello ${input.name}` })\n',
    )
  })
  afterAll(async () => {
    await expectNoProcessLeft()
    await rm(home, { recursive: true, force: true })
  })

  test('of a run that succeeds prints a line for each change and ends with 0', async () => {
    const { code, stdout, stderr } = await run(['flow.yaml', '--input', 'code=0'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const lines = stdout.trimEnd().split('\n')
    expect(lines[0]).toMatch(/^run_\w{26} {2}flow$/)
    expect(lines.some((line) => /^\d\d:\d\d:\d\d\.\d{3} {2}hello +succeeded/.test(line))).toBe(true)
    expect(lines.at(-1)).toMatch(/^run_\w{26} {2}succeeded {2}/)
  })

  test('of a run that fails says which step, why, what it wrote and what to do next, and ends with 1', async () => {
    const { code, stdout } = await run(['flow.yaml', '--input', 'code=3'])
    expect(code).toBe(1)
    expect(stdout).toMatch(/step leave/)
    expect(stdout).toMatch(/step\.exit_nonzero/)
    expect(stdout).toMatch(/exitCode {2}3/)
    expect(stdout).toMatch(/│ hello Ada\n *│ wrong/)
    expect(stdout).toMatch(/orrery explain step\.exit_nonzero/)
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/failed/)
  })

  test('with --json prints one object a line: the run, its events, its outcome', async () => {
    const { code, stdout } = await run(['flow.yaml', '--input', 'code=3', '--json'])
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>) // or the test fails here
    expect(code).toBe(1)
    expect(lines[0]).toMatchObject({ type: 'run', run: { workflow: 'flow' } })
    const events = lines.slice(1, -1)
    expect(events.every((line) => line['type'] === 'event')).toBe(true)
    expect(events.map((line) => line['seq'])).toEqual(events.map((_, i) => i + 1))
    expect(lines.at(-1)).toMatchObject({
      type: 'outcome',
      state: 'failed',
      exit: 1,
      failedSteps: [{ name: 'leave', failure: { code: 'step.exit_nonzero', evidence: { exitCode: 3 } } }],
    })
  })

  test('reads a manifest from standard input', async () => {
    const { code, stdout } = await run(['-', '--input', 'code=0'], FLOW)
    expect(code).toBe(0)
    expect(stdout).toContain('succeeded')
  })

  test('under a key that was used gives the run that there is', async () => {
    const args = ['flow.yaml', '--input', 'code=0', '--idempotency-key', 'once']
    const [first, second] = [await run(args), await run(args)]
    expect([first.code, second.code]).toEqual([0, 0])
    expect(idIn(second.stdout)).toBe(idIn(first.stdout))
    const other = await run(['flow.yaml', '--input', 'code=1', '--idempotency-key', 'once'])
    expect(other.code).toBe(65)
    expect(other.stderr).toContain('idempotency.key_reused')
  })

  test('that takes longer than --timeout is canceled and ends with 124', async () => {
    await writeFile(join(home, 'slow.yaml'), slow(60))
    const { code, stderr } = await run(['slow.yaml', '--timeout', '2s'])
    expect(code).toBe(124)
    expect(stderr).toContain('run.timed_out')
  })

  test.each([
    [
      'a key that does not exist',
      slow(1).replace('command', 'comand'),
      'manifest.invalid',
      /:7:7 .*\n.*"comand".*did you mean "command"/,
    ],
    ['a need that does not exist', `${slow(1)}      needs: [a1]\n`, 'workflow.reference_unknown', /a1/],
    ['broken YAML', `${slow(1)}   x: [\n`, 'manifest.invalid', /:8:/],
    ['a NUL byte', slow(1).replace('slow', 'sl\0ow'), 'manifest.invalid', /:3:/],
    ['nothing', '', 'manifest.invalid', /no|empty|must/],
    ['a YAML bomb', bomb(), 'manifest.invalid', /alias/],
    ['brackets without an end', '['.repeat(100_000), 'manifest.invalid', /nest|deep/],
    [
      'braces a hundred thousand deep',
      `${'{a: '.repeat(100_000)}1${'}'.repeat(100_000)}`,
      'manifest.invalid',
      /nest|deep/,
    ],
    ['10 MB', slow(1) + '#'.repeat(10_000_000), 'manifest.too_large', /./],
  ])('refuses a file with %s by its code, and starts nothing', async (_, text, code, words) => {
    await writeFile(join(home, 'wrong.yaml'), text)
    const result = await run(['wrong.yaml'])
    expect(result, result.stderr.slice(0, 2_000)).toMatchObject({ code: 65, stdout: '' })
    expect(result.stderr).toContain(code)
    expect(result.stderr.slice(0, 20_000)).toMatch(words)
    expect(result.stderr).toContain('→')
    expect(result.stderr).not.toMatch(/^ +at /m)
  })

  test('names the file that is missing, the input that is wrong, the option that does not exist', async () => {
    expect(await run(['missing.yaml'])).toMatchObject({
      code: 66,
      stderr: expect.stringContaining(join(home, 'missing.yaml')),
    })
    const wrong = await run(['flow.yaml', '--input', 'code=x', '--input', 'cod=1'])
    expect(wrong).toMatchObject({ code: 65, stdout: '' })
    expect(wrong.stderr).toMatch(/"x" is not of type integer/)
    expect(wrong.stderr).toMatch(/no input "cod".*did you mean "code"/)
    expect(await run(['flow.yaml'])).toMatchObject({ code: 65, stderr: expect.stringContaining('inputs.code') })
    expect(await run(['flow.yaml', '--inptu', 'code=1'])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--input'),
    })
  })

  test('says why a module cannot be loaded, and ends with 78', async () => {
    await writeFile(join(home, 'gone.yaml'), FLOW.replace('./m.ts', './gone.ts'))
    const result = await run(['gone.yaml', '--input', 'code=0'])
    expect(result.code).toBe(78)
    expect(result.stderr).toContain('module.load_failed')
    expect(result.stderr).toContain('gone.ts')
  })
})

const idIn = (text: string): string | undefined => /run_\w{26}/.exec(text)?.[0]

function slow(seconds: number): string {
  return `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: slow }
spec:
  steps:
    - name: wait
      command: [sleep, '${seconds}']
`
}

/** Ten levels of ten aliases each: a document that would be of ten thousand million values. */
function bomb(): string {
  const levels = Array.from({ length: 10 }, (_, i) => `l${i + 1}: &l${i + 1} [${Array(10).fill(`*l${i}`).join(', ')}]`)
  return `l0: &l0 x\n${levels.join('\n')}\n`
}
