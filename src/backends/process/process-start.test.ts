import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { HandClock, silentLog, systemClock } from '../../base/index.ts'
import type { FailureRecord } from '../../domain/failure.ts'
import type { Backend, CommandSpec } from '../backend.ts'
import { countTo, indexesOf, readAll, textOf } from '../backend.suite.ts'
import { createProcessBackend } from './process-backend.ts'

let root: string
let bin: string
let backend: Backend

const create = (at: string) => createProcessBackend({ root: at, clock: systemClock, log: silentLog, idleExitMs: 300 })

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'orrery-start-'))
  bin = join(root, 'bin')
  mkdirSync(bin)
  backend = await create(join(root, 'worker'))
})
afterEach(async () => {
  await backend.close()
  rmSync(root, { recursive: true, force: true })
})

const specOf = (argv: string[], more: Partial<CommandSpec> = {}): CommandSpec => ({
  key: 'run_1.build@1',
  argv,
  env: { PATH: `${bin}:/usr/bin:/bin`, TOKEN: 'hidden-value' },
  stdin: null,
  workdir: null,
  timeoutMs: null,
  killGraceMs: 300,
  keepOnFailureMs: null,
  note: '',
  ...more,
})

async function refusalOf(argv: string[], more: Partial<CommandSpec> = {}, on = backend): Promise<FailureRecord> {
  const handle = await on.start(specOf(argv, more))
  const end = await handle.ended
  if (end.kind !== 'not_started') throw new Error(`it started: ${JSON.stringify(end)}`)
  expect(handle.startedAt).toBeNull()
  expect(await readAll(handle)).toEqual([])
  expect(await handle.forget({ failed: true })).toBeNull()
  return end.failure
}

function script(name: string, text: string, mode = 0o755): string {
  const path = join(bin, name)
  writeFileSync(path, text)
  chmodSync(path, mode)
  return path
}

describe('a command whose executable', () => {
  test('is nowhere on its PATH is refused with the directories that were searched', async () => {
    expect(await refusalOf(['nosuch-program', '-v'])).toMatchObject({
      code: 'backend.executable_missing',
      evidence: { executable: 'nosuch-program', searched: [bin, '/usr/bin', '/bin'] },
    })
  })

  test('is on the PATH of the worker only is refused', async () => {
    const failure = await refusalOf(['sh', '-c', 'exit 0'], { env: { PATH: bin } })
    expect(failure).toMatchObject({ code: 'backend.executable_missing', evidence: { searched: [bin] } })
  })

  test('may not be executed is refused with the remedy', async () => {
    const path = script('tool', '#!/bin/sh\n', 0o644)
    const failure = await refusalOf(['tool'])
    expect(failure).toMatchObject({ code: 'backend.executable_missing', evidence: { path, found: 'not_executable' } })
    expect(failure.remediation).toContain(`chmod +x ${path}`)
  })

  test('is a directory, or a path that does not exist, is refused', async () => {
    expect(await refusalOf([bin])).toMatchObject({ evidence: { path: bin, found: 'directory' } })
    expect(await refusalOf(['./gone'])).toMatchObject({ evidence: { found: 'absent' } })
  })

  test('names an interpreter that is missing is refused with the interpreter', async () => {
    script('a', '#!/opt/none/python\n')
    expect(await refusalOf(['a'])).toMatchObject({ evidence: { interpreter: '/opt/none/python' } })
    script('b', '#!/bin/sh\r\necho hi\r\n')
    expect((await refusalOf(['b'])).remediation).toContain('carriage return')
    script('c', '#!/usr/bin/env nosuch-program\n')
    expect(await refusalOf(['c'])).toMatchObject({ code: 'backend.executable_missing' })
  })

  test('has a loader that is missing is refused by the kernel', async () => {
    const program = readFileSync('/bin/true')
    program.write('ld-gone0', program.indexOf('ld-linux'), 'latin1')
    writeFileSync(join(bin, 'a'), program)
    chmodSync(join(bin, 'a'), 0o755)
    const failure = await refusalOf(['a'])
    expect(failure).toMatchObject({ code: 'backend.executable_missing', evidence: { errno: 'ENOENT' } })
    expect(failure.remediation).toContain('libc')
  })

  test('cannot be given so many arguments is refused', async () => {
    const argv = ['true', ...countTo(30).map(() => 'x'.repeat(120_000))]
    expect(await refusalOf(argv)).toMatchObject({ code: 'backend.start_failed', evidence: { errno: 'E2BIG' } })
  })
})

describe('a working directory', () => {
  test('below the workspace is made', async () => {
    const handle = await backend.start(specOf(['pwd'], { workdir: 'a/b' }))
    expect(textOf(await readAll(handle))).toBe(`${join(handle.workspace, 'a/b')}\n`)
    await handle.forget({ failed: false })
  })

  test('that leads out of the workspace, or is absolute and missing, is refused', async () => {
    expect(await refusalOf(['pwd'], { workdir: 'a/../..' })).toMatchObject({ code: 'backend.workdir_invalid' })
    expect(await refusalOf(['pwd'], { workdir: '/nowhere' })).toMatchObject({ code: 'backend.workdir_invalid' })
  })
})

describe('a workspace', () => {
  test('that cannot be made refuses the attempt with path, owner and error', async () => {
    const below = join(root, 'file')
    writeFileSync(below, '')
    for (const [at, errno] of [
      [join(below, 'worker'), 'ENOTDIR'],
      [below, 'ENOTDIR'],
      ['/proc/1/orrery', 'ENOENT'],
    ] as const) {
      const other = await create(at)
      expect(await refusalOf(['true'], {}, other)).toMatchObject({
        code: 'backend.workspace_not_writable',
        evidence: { path: expect.stringContaining(at), errno, owner: expect.any(Number) },
      })
      await other.close()
    }
  })

  test('is private, and the environment is nowhere in it', async () => {
    const handle = await backend.start(specOf(['sh', '-c', 'exit 1'], { keepOnFailureMs: 60_000 }))
    await handle.ended
    const dir = join(handle.workspace, '..')
    expect(statSync(dir).mode & 0o777).toBe(0o700)
    expect(execFileSync('grep', ['-rc', 'build', join(dir, 'spec.json')]).toString()).toBe('1\n')
    expect(readFileSync(join(dir, 'spec.json'), 'utf8')).not.toContain('hidden-value')
    await handle.forget({ failed: false })
    expect(existsSync(dir)).toBe(false)
  })

  test('is kept after a failure until it expires, also over a restart', async () => {
    const clock = new HandClock(1_000)
    const at = join(root, 'worker')
    const handle = await backend.start(specOf(['sh', '-c', 'echo 1 > trace; exit 1'], { keepOnFailureMs: 5_000 }))
    await handle.ended
    await backend.close()

    const options = { root: at, clock, log: silentLog }
    const second = await createProcessBackend(options)
    const [found] = await second.recover()
    const place = await found?.forget({ failed: true })
    expect(place).toEqual({ path: handle.workspace, until: 6_000 })
    expect(readFileSync(join(handle.workspace, 'trace'), 'utf8')).toBe('1\n')
    expect(await second.recover()).toEqual([])
    expect(await second.sweepKept()).toBe(0)
    clock.advance(5_000)
    await second.close()

    const third = await createProcessBackend(options)
    expect(existsSync(handle.workspace)).toBe(false)
    await third.close()
  })

  test('that was prepared but never given to a host is started by the next start', async () => {
    const dir = join(root, 'worker/attempts/run_1.build@1')
    mkdirSync(join(dir, 'work'), { recursive: true })
    writeFileSync(join(dir, 'spec.json'), JSON.stringify({ key: 'run_1.build@1', note: '' }))
    const handle = await backend.start(specOf(['sh', '-c', 'exit 6']))
    expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 6 })
    await handle.forget({ failed: false })
  })

  test('has its own directory for any key', async () => {
    const keys = ['run_1.a/../../b@1', 'run_1.a:b@1', 'run_1.a_b@1', `run_1.${'n'.repeat(400)}@1`, '.hidden@1']
    const handles = await Promise.all(keys.map((key) => backend.start(specOf(['pwd'], { key }))))
    const places = await Promise.all(handles.map(async (h) => textOf(await readAll(h))))
    expect(new Set(places).size).toBe(keys.length)
    for (const place of places) expect(place.startsWith(join(root, 'worker/attempts'))).toBe(true)
    for (const handle of handles) await handle.forget({ failed: false })
  })
})

/** A disk of 256 kB; only root may mount one. */
function mountSmallDisk(at: string): boolean {
  try {
    mkdirSync(at)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', at], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

function unmounts(disk: string): boolean {
  try {
    execFileSync('umount', [disk], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

describe('a full disk', () => {
  test('costs output, which is counted, but not the exit code; and refuses the next attempt', async (context) => {
    const disk = join(root, 'disk')
    if (!mountSmallDisk(disk)) return context.skip('mounting is not allowed here')
    const other = await create(disk)
    try {
      const fill = 'dd if=/dev/zero of=fill 2>/dev/null; head -c 100000 /dev/zero | tr "\\0" x; exit 4'
      const handle = await other.start(specOf(['sh', '-c', fill]))
      const segments = await readAll(handle)
      expect(indexesOf(segments)).toEqual(countTo(segments.length))
      expect(await handle.ended).toMatchObject({ kind: 'exited', exitCode: 4, tail: 'x'.repeat(4096) })
      expect(await refusalOf(['true'], { key: 'run_1.next@1', stdin: 'y'.repeat(5_000) }, other)).toMatchObject({
        code: 'backend.disk_full',
        evidence: { path: expect.stringContaining(disk), free_bytes: expect.any(Number) },
      })
      await handle.forget({ failed: false })
    } finally {
      await other.close()
      // Only when the shim host has left, which must not wait for ever to write the status of a forgotten attempt.
      const due = systemClock.monotonic() + 50_000
      while (!unmounts(disk) && systemClock.monotonic() < due) await systemClock.sleep(20)
      expect(readdirSync(disk)).toEqual([])
    }
  })
})
