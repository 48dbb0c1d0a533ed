import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import type { JsonObject } from '../../base/json.ts'
import { callTool } from '../testing/tool-rig.ts'
import { whyNoSandbox } from '../testing/sandbox-here.ts'
import { serveTool } from '../testing/tool-server.ts'
import { refuseUnstarted, sandboxed } from './sandbox.ts'
import type { ToolPrograms } from './tool-programs.ts'

const noSandbox = whyNoSandbox()
const HOST: ToolPrograms = { files: null, hostCommands: ['*'] }

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'orrery-tools-'))
  made.push(dir)
  return dir
}
const made: string[] = []
afterAll(() => {
  for (const dir of made) rmSync(dir, { recursive: true, force: true })
})

const command = (argv: string[], block: JsonObject = {}, more: JsonObject = {}): JsonObject => ({
  type: 'command',
  retry: 0,
  ...more,
  command: { argv, ...block },
})
const sh = (script: string, block: JsonObject = {}, more: JsonObject = {}): JsonObject =>
  command(['sh', '-c', script], block, more)

/** Without isolation, which every system can. */
const onHost = (
  spec: JsonObject,
  input: JsonObject = {},
  given: { secrets?: Record<string, string>; programs?: ToolPrograms } = {},
) => {
  const workdir = folder()
  return callTool({ ...spec, isolation: 'none' }, input, {
    ...(given.secrets ? { secrets: given.secrets } : {}),
    env: { workdir: async () => workdir },
    deps: { programs: given.programs ?? HOST },
  })
}

describe('a program', () => {
  test('gets each template as one argument, whatever is in it, and no shell reads them', async () => {
    const argv = ['printf', '%s|', '${{ inputs.a }}', 'x ${{ inputs.n }}', '$HOME', '*']
    const { result } = await onHost(command(argv), { a: `it's "a"; rm -rf / $(id) \n ü`, n: 3 })
    expect(result).toEqual({ ok: true, output: `it's "a"; rm -rf / $(id) \n ü|x 3|$HOME|*|` })
  })

  test.for<[what: string, argv: string[], input: JsonObject, reason: RegExp]>([
    ['for an option', ['ls', '${{ inputs.a }}'], { a: '--color' }, /argument 1 begins with a dash/],
    ['for two', ['ls', '${{ inputs.a }}'], { a: 'x\0y' }, /zero byte/],
    ['for a list', ['ls', '${{ inputs.a }}'], { a: ['x'] }, /argument 1 must be a text/],
    ['for what it was not called with', ['ls', '${{ inputs.a }}'], {}, /inputs\.a has no value/],
  ])('never takes a value %s', async ([, argv, input, reason]) => {
    expect((await onHost(command(argv), input)).result).toMatchObject({
      code: 'tool.invalid_input',
      reason: expect.stringMatching(reason),
    })
  })

  test('takes a dash where the manifest allows it', async () => {
    const argv = ['printf', '%s|', '--', '${{ inputs.a }}', '--x=${{ inputs.a }}']
    expect((await onHost(command(argv), { a: '-1' })).result).toEqual({ ok: true, output: '--|-1|--x=-1|' })
  })

  test.for<[stdin: string, said: unknown]>([
    ['input', { q: 1 }],
    ['envelope', expect.objectContaining({ version: 1, input: { q: 1 }, idempotencyKey: 'stp_1/call_1', attempt: 1 })],
  ])('reads the %s as JSON', async ([stdin, said]) => {
    expect((await onHost(command(['cat'], { stdin, output: 'json' }), { q: 1 })).result).toEqual({
      ok: true,
      output: said,
    })
  })

  test('gives what it wrote though something that it started left its group and holds its streams', async () => {
    const script = 'setsid sh -c "echo \\$\\$; : > said; exec sleep 600" & until [ -e said ]; do :; done'
    const { result, tries } = await onHost(command(['sh', '-c', script]))
    const pid = Number(result.ok ? result.output : 0)
    expect(pid).toBeGreaterThan(0)
    onTestFinished(() => void process.kill(pid, 'SIGKILL'))
    expect(tries).toBe(1)
  })

  test('reads nothing where it is given nothing, and need not read at all', async () => {
    expect((await onHost(command(['cat'], { stdin: 'none' }), { q: 1 })).result).toEqual({ ok: true, output: '' })
    expect((await onHost(command(['true']), { q: 'x'.repeat(1_000_000) })).result).toEqual({ ok: true, output: '' })
  })

  test.for<[what: string, script: string, output: string, result: JsonObject]>([
    ['JSON', 'echo \'{"a":[1]}\'', 'json', { ok: true, output: { a: [1] } }],
    ['a result', 'echo \'{"ok":true,"output":7}\'', 'envelope', { ok: true, output: 7 }],
    [
      'a failure',
      'echo \'{"ok":false,"reason":"no","retryable":true}\'; exit 4',
      'envelope',
      { ok: false, code: 'tool.failed', reason: 'no', retryable: true },
    ],
    ['no JSON', 'echo {', 'json', { ok: false, code: 'tool.invalid_output' }],
    ['no result', 'echo 1', 'envelope', { ok: false, code: 'tool.invalid_output' }],
    ['no text', "printf '\\377\\376'", 'text', { ok: false, code: 'tool.invalid_output' }],
  ])('that writes %s is read so', async ([, script, output, result]) => {
    expect((await onHost(sh(script, { output }))).result).toMatchObject(result)
  })

  test('that fails says how, with its last lines and no secret', async () => {
    const spec = sh('echo begin >&2; echo "token is $TOKEN" >&2; exit 3', {
      env: { TOKEN: { secret: 'api', key: 'token' } },
    })
    const { result, lines } = await onHost(spec, {}, { secrets: { 'api/token': 'correct-horse' } })
    expect(result).toEqual({
      ok: false,
      code: 'tool.failed',
      reason: 'sh ended with code 3: token is [secret]',
      retryable: false,
      evidence: { exitCode: 3, tail: 'begin\ntoken is [secret]\n' },
    })
    expect(lines).toEqual(['begin', 'token is [secret]'])
  })

  test('says by its code what is success, and what passes', async () => {
    expect((await onHost(sh('exit 1', { exitCodes: [0, 1] }))).result).toEqual({ ok: true, output: '' })
    const dir = folder()
    const spec = sh(`echo x >> ${dir}/tries; exit 75`, { retryCodes: [75] }, { retry: { max: 2, initial: '1ms' } })
    expect(await onHost(spec)).toMatchObject({ tries: 3, result: { retryable: true, evidence: { exitCode: 75 } } })
    expect(readFileSync(join(dir, 'tries'), 'utf8')).toBe('x\nx\nx\n')
  })

  test('has no environment but its own', async () => {
    const spec = command(['env'], {
      env: {
        CITY: '${{ inputs.city }}',
        NONE: '${{ inputs.?none.orValue(null) }}',
        TOKEN: { secret: 'api', key: 'token' },
      },
    })
    const { result } = await onHost(spec, { city: 'Bern' }, { secrets: { 'api/token': 'correct-horse' } })
    const names = String(result.ok && result.output)
      .trim()
      .split('\n')
      .map((line) => line.split('=')[0] ?? '')
    expect(names.toSorted()).toEqual([
      'CITY',
      'HOME',
      'LANG',
      'ORRERY_IDEMPOTENCY_KEY',
      'ORRERY_TOOL',
      'PATH',
      'TMPDIR',
      'TOKEN',
      'TRACEPARENT',
    ])
    expect(result).toMatchObject({ output: expect.stringContaining('ORRERY_IDEMPOTENCY_KEY=stp_1/call_1\n') })
    expect(result).toMatchObject({ output: expect.stringContaining('TOKEN=[secret]\n') })
  })

  test('that writes without end is ended, and nothing of it is kept', async () => {
    const { result } = await onHost(command(['yes'], {}, { maxOutputBytes: 100_000 }))
    expect(result).toMatchObject({ code: 'tool.invalid_output', evidence: { maxOutputBytes: 100_000 } })
  })

  test('that never ends is ended with all that it started', async () => {
    const { result } = await onHost(sh('sleep 4322 & wait', {}, { timeout: '500ms' }))
    expect(result).toMatchObject({ code: 'tool.timeout' })
    await expect.poll(() => isRunning('sleep 4322')).toBe(false)
  })

  test('that leaves something behind has ended all the same', async () => {
    const { result } = await onHost(sh('sleep 1000 & echo done'))
    expect(result).toEqual({ ok: true, output: 'done\n' })
  })

  test('is one of those that the worker runs without isolation, or it does not run', async () => {
    const programs = { files: null, hostCommands: ['cat', '/bin/date'] }
    expect((await onHost(command(['cat']), {}, { programs })).result.ok).toBe(true)
    for (const name of ['date', 'sh', '/bin/cat'])
      expect((await onHost(command([name]), {}, { programs })).result).toMatchObject({
        code: 'tool.isolation_unavailable',
        reason: expect.stringContaining(`--tool-commands ${name}`),
        retryable: false,
      })
    expect((await callTool(command(['cat'], {}, { isolation: 'none' }))).result).toMatchObject({
      code: 'tool.isolation_unavailable',
    })
  })

  test.for<[what: string, program: string, reason: RegExp]>([
    ['nowhere', 'no-such-program', /is no program in/],
    ['not among the files', './missing.sh', /is not in/],
    ['a link out of them', './out.sh', /leads out of/],
  ])('that is %s is named', async ([, program, reason]) => {
    const files = folder()
    symlinkSync('/bin/sh', join(files, 'out.sh'))
    expect((await onHost(command([program]), {}, { programs: { files, hostCommands: ['*'] } })).result).toMatchObject({
      code: 'tool.module_not_found',
      reason: expect.stringMatching(reason),
    })
    expect((await onHost(command(['./a.sh']))).result).toMatchObject({
      reason: expect.stringContaining('--tool-files DIR'),
    })
  })
})

describe('a limit of a program', () => {
  test.for<[what: string, script: string, limits: JsonObject, reason: RegExp]>([
    ['the time of the processor', 'while :; do :; done', { cpu: '1s' }, /took more time of the processor than it may/],
    ['the size of a file', 'head -c 200000 /dev/zero > file', { fileBytes: 100_000 }, /larger file|code 1|SIGXFSZ/],
    ['memory', 'x=a; while :; do x=$x$x; done', { memoryBytes: 32 * 1024 * 1024 }, /ended/],
  ])('holds for %s', async ([, script, limits, reason]) => {
    const { result } = await onHost(sh(script, { limits }, { timeout: '60s' }))
    expect(result).toMatchObject({ ok: false, code: 'tool.failed', reason: expect.stringMatching(reason) })
  })

  test.skipIf(process.getuid?.() === 0)('holds for processes, when the worker is not run by root', async () => {
    const spec = sh('for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait', { limits: { processes: 4 } })
    expect((await callTool(spec)).result).toMatchObject({
      code: 'tool.failed',
      reason: expect.stringMatching(/fork|Resource/),
    })
  })
})

describe.skipIf(noSandbox !== null)(`a sandbox${noSandbox === null ? '' : ` (skipped: ${noSandbox})`}`, () => {
  const inside = (script: string, block: JsonObject = {}, programs: ToolPrograms = { files: null, hostCommands: [] }) =>
    callTool(sh(script, block), {}, { deps: { programs } })
  const said = async (script: string, block: JsonObject = {}) => {
    const { result } = await inside(script, block)
    return result.ok ? result.output : result
  }

  test('is where a command runs that does not say otherwise', async () => {
    expect(await said('id -u; hostname; pwd; echo $HOME')).toBe('65534\ntool\n/tmp\n/tmp\n')
  })

  test('has no network', async () => {
    const server = await serveTool((_, response) => response.end('here'))
    const { port } = new URL(server.url)
    expect(await said('cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d " \\n"')).toBe('lo')
    expect(await said(`(exec 3<>/dev/tcp/127.0.0.1/${port}) 2>/dev/null && echo reached || echo no; true`)).toBe('no\n')
    expect(server.seen).toEqual([])
  })

  test('has no home and nothing of the host but what is read only', async () => {
    const secret = folder()
    writeFileSync(join(secret, 'secret'), 'secret')
    expect(await said(`ls -d ${homedir()} ${secret} /etc/passwd /etc/shadow /var /root /home 2>/dev/null; true`)).toBe(
      '',
    )
    expect(await said('touch /usr/x /x /etc/x 2>/dev/null && echo wrote || echo no')).toBe('no\n')
    expect(await said('ls /proc | grep -c "^[0-9]"')).toMatch(/^[1-5]\n$/)
  })

  test('has a /tmp of its own, which ends with it', async () => {
    writeFileSync(join(folder(), 'there'), '')
    expect(await said('echo a > /tmp/a; ls -A /tmp')).toBe('a\n')
    expect(await said('ls -A /tmp')).toBe('')
    const full = await inside('for i in 1 2 3 4 5; do head -c 50000 /dev/zero > /tmp/$i || exit 9; done', {
      limits: { fileBytes: 100_000 },
    })
    expect(full.result).toMatchObject({ code: 'tool.failed', evidence: { exitCode: 9 } })
  })

  test('has no environment but its own, and no rights', async () => {
    const names = String(await said('env | cut -d= -f1 | sort | tr "\\n" " "', { env: { CITY: 'Bern' } }))
    expect(
      names
        .trim()
        .split(' ')
        .filter((name) => !/^(_|PWD|OLDPWD|SHLVL)$/.test(name)),
    ).toEqual(['CITY', 'HOME', 'LANG', 'ORRERY_IDEMPOTENCY_KEY', 'ORRERY_TOOL', 'PATH', 'TMPDIR', 'TRACEPARENT'])
    expect(await said('grep CapEff /proc/self/status | tr -d "\\t"')).toBe('CapEff:0000000000000000\n')
  })

  test('sees the files of the tools, and runs them', async () => {
    const files = folder()
    mkdirSync(join(files, 'lib'))
    writeFileSync(join(files, 'lib', 'data'), 'data')
    writeFileSync(
      join(files, 'tool.sh'),
      '#!/bin/sh\ncat /tools/lib/data "$1"\ntouch /tools/x 2>/dev/null || echo " read only"\n',
    )
    chmodSync(join(files, 'tool.sh'), 0o755)
    const { result } = await callTool(
      command(['./tool.sh', '/tools/lib/data']),
      {},
      { deps: { programs: { files, hostCommands: [] } } },
    )
    expect(result).toEqual({ ok: true, output: 'datadata read only\n' })
    expect(existsSync(join(files, 'x'))).toBe(false)
    const byAnother = command(['sh', './tool.sh', '${{ inputs.name }}'])
    const given = { deps: { programs: { files, hostCommands: [] } } }
    expect((await callTool(byAnother, { name: '/tools/lib/data' }, given)).result.ok).toBe(true)
    expect((await callTool(command(['cat', '${{ inputs.name }}']), { name: './tool.sh' }, given)).result.ok).toBe(false)
  })

  test('ends with all that is in it, also what left its group', async () => {
    const { result } = await callTool(sh('setsid sleep 4321 & sleep 1000', {}, { timeout: '700ms' }))
    expect(result).toMatchObject({ code: 'tool.timeout' })
    await expect.poll(() => isRunning('sleep 4321')).toBe(false)
  })
})

describe('where there is no sandbox', () => {
  const wish = { files: null, limits: { memoryBytes: 1, cpu: 1, processes: 1, fileBytes: 1 }, argv: ['/bin/true'] }

  test.for([
    ['bwrap', 'bubblewrap'],
    ['prlimit', 'util-linux'],
  ])('nothing runs, and without %s the package %s is named', ([missing, name]) => {
    const find = (program: string): string | null => (program === missing ? null : `/usr/bin/${program}`)
    expect(() => sandboxed(wish, find)).toThrow(
      expect.objectContaining({
        code: 'tool.isolation_unavailable',
        remediation: expect.stringContaining(`package ${name}`),
      }),
    )
  })

  test('because the system forbids it, what it said is told', () => {
    expect(() => refuseUnstarted('', 'bwrap: No permissions to create new namespace\n')).toThrow(
      expect.objectContaining({
        code: 'tool.isolation_unavailable',
        evidence: { program: 'bwrap', said: 'bwrap: No permissions to create new namespace' },
      }),
    )
  })
})

const isRunning = (words: string): boolean =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .some((pid) => commandOf(pid) === words)

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    return ''
  }
}
