import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { deferred } from '../base/deferred.ts'
import { silentLog } from '../base/log.ts'
import { dropSeed, keepDump, preparedDirectory, readDump, seedName, type SeedOptions } from './seed.ts'

let seedDir: string
beforeEach(() => {
  seedDir = mkdtempSync(join(tmpdir(), 'orrery-seed-'))
  onTestFinished(() => rmSync(seedDir, { recursive: true, force: true }))
})

const options = (extra: Partial<SeedOptions> = {}): SeedOptions => ({
  seedDir,
  version: '1.2.3',
  pid: 7,
  isAlive: (pid) => pid !== 13,
  log: silentLog,
  ...extra,
})
const fill = (text: string) => (directory: string) => {
  mkdirSync(directory)
  writeFileSync(join(directory, 'PG_VERSION'), text)
  return Promise.resolve()
}
const age = (name: string, at: number) => utimesSync(join(seedDir, name), at, at)

test('every migration is in the name of the prepared database, also the last of many', () => {
  const many = Array.from({ length: 40 }, (_, n) => {
    return { number: n + 1, name: `m${n}`, breaking: false, sql: '', checksum: `checksum of ${n}` }
  })
  const edited = many.map((m) => (m.number === 40 ? { ...m, checksum: 'edited' } : m))
  expect(seedName('1', many)).toBe(seedName('1', [...many]))
  expect(new Set([many, edited, many.slice(0, -1)].map((m) => seedName('1', m))).size).toBe(3)
  expect(seedName('2', many)).not.toBe(seedName('1', many))
})

test('is made once, and found by the next one', async () => {
  const seed = await preparedDirectory(options(), fill('16'))
  expect(seed).not.toBeNull()
  expect(await preparedDirectory(options({ pid: 8 }), () => Promise.reject(new Error('made twice')))).toBe(seed)
  expect(readFileSync(join(seed ?? '', 'PG_VERSION'), 'utf8')).toBe('16')
})

test('of two that make it at once the first stays whole, and both have it', async () => {
  const isMaking = deferred<void>()
  const mayEnd = deferred<void>()
  const slow = preparedDirectory(options(), async (directory) => {
    isMaking.resolve()
    await mayEnd.promise
    await fill('slow')(directory)
  })
  await isMaking.promise
  const quick = await preparedDirectory(options({ pid: 8 }), fill('quick'))
  mayEnd.resolve()
  expect(await slow).toBe(quick)
  expect(readFileSync(join(quick ?? '', 'PG_VERSION'), 'utf8')).toBe('quick')
  expect(readdirSync(seedDir)).toHaveLength(1)
})

test('what cannot be made is null, and leaves nothing behind', async () => {
  const broken = async (directory: string) => {
    await fill('half')(directory)
    throw new Error('no room')
  }
  expect(await preparedDirectory(options(), broken)).toBeNull()
  expect(readdirSync(seedDir)).toEqual([])
})

test('a dump is kept beside, and read whole', async () => {
  expect(await readDump(options())).toBeNull()
  await keepDump(Buffer.from('dump'), options())
  expect(String(await readDump(options({ pid: 9 })))).toBe('dump')
})

test('the seeds of the oldest builds and of makers that died are pruned, nothing else', async () => {
  for (const n of [1, 2, 3, 4, 5]) {
    mkdirSync(join(seedDir, `pglite-0.${n}.0-0123456789abcde${n}`))
    age(`pglite-0.${n}.0-0123456789abcde${n}`, n)
    writeFileSync(join(seedDir, `pglite-0.${n}.0-0123456789abcde${n}.tar`), '')
    age(`pglite-0.${n}.0-0123456789abcde${n}.tar`, n)
  }
  for (const other of [
    'pglite-0.1.0-d19ba602-9d7aa306',
    'notes',
    'pglite-9.0.0-00112233.12',
    'pglite-9.0.0-00112233.13',
  ])
    mkdirSync(join(seedDir, other))
  age('pglite-0.1.0-d19ba602-9d7aa306', 0)
  await preparedDirectory(options(), fill('16'))
  const left = readdirSync(seedDir).sort()
  expect(left.filter((name) => !name.includes('1.2.3'))).toEqual([
    'notes',
    'pglite-0.2.0-0123456789abcde2.tar',
    'pglite-0.3.0-0123456789abcde3',
    'pglite-0.3.0-0123456789abcde3.tar',
    'pglite-0.4.0-0123456789abcde4',
    'pglite-0.4.0-0123456789abcde4.tar',
    'pglite-0.5.0-0123456789abcde5',
    'pglite-0.5.0-0123456789abcde5.tar',
    'pglite-9.0.0-00112233.12',
  ])
})

test('a seed of no use goes, with no half of it left for others', async () => {
  const seed = (await preparedDirectory(options(), fill('16'))) ?? ''
  await dropSeed(seed, 7)
  expect(existsSync(seed)).toBe(false)
  expect(readdirSync(seedDir)).toEqual([])
})
