import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { RotatingFile, type RotatingFileOptions } from './rotating-file.ts'

const root = mkdtempSync(join(tmpdir(), 'orrery-rotating-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))
let dir = ''
let count = 0
beforeEach(() => {
  dir = join(root, String(count++))
})

const trouble: unknown[] = []
const open = (options: Partial<RotatingFileOptions> = {}): RotatingFile =>
  new RotatingFile({
    path: join(dir, 'server.log'),
    maxBytes: 100,
    keep: 2,
    bufferBytes: 1_000_000,
    onTrouble: (t) => void trouble.push(t),
    ...options,
  })
const read = (name: string) => readFileSync(join(dir, name), 'utf8')

describe('a log file', () => {
  test('is put aside before it would grow beyond its limit; so many are kept and older ones go', async () => {
    const file = open()
    for (let i = 0; i < 12; i++) {
      file.write(`${i} ${'x'.repeat(40)}\n`)
      await file.settled()
    }
    await file.close()
    expect(readdirSync(dir).sort()).toEqual(['server.log', 'server.log.1', 'server.log.2'])
    expect(['server.log.2', 'server.log.1', 'server.log'].flatMap((f) => read(f).match(/^\d+/gm))).toEqual([
      '6',
      '7',
      '8',
      '9',
      '10',
      '11',
    ])
    for (const name of readdirSync(dir)) expect(statSync(join(dir, name)).size).toBeLessThanOrEqual(100)
  })

  test('goes on where it ended when it is opened again', async () => {
    const first = open()
    first.write('two\n')
    await first.close()
    const second = open()
    second.write('three\n')
    await second.close()
    expect(read('server.log')).toContain('two\nthree\n')
  })

  test('that somebody put aside or removed is made anew', async () => {
    const file = open()
    file.write('one\n')
    await file.settled()
    renameSync(join(dir, 'server.log'), join(dir, 'server.log.old'))
    file.write('two\n')
    await file.settled()
    rmSync(dir, { recursive: true })
    file.write('three\n')
    await file.close()
    expect(read('server.log')).toBe('three\n')
  })

  test('of two writers loses no line when one of them puts it aside', async () => {
    const [a, b] = [open({ keep: 20 }), open({ keep: 20 })]
    for (let i = 0; i < 20; i++) {
      for (const file of [a, b]) {
        file.write(`${i} ${'x'.repeat(30)}\n`)
        await file.settled()
      }
    }
    await a.close()
    await b.close()
    expect(readdirSync(dir).flatMap((name) => read(name).match(/^\d+/gm) ?? [])).toHaveLength(40)
  })

  test('that cannot be written costs lines, which are counted and told of once; it is written again when it can be', async () => {
    trouble.length = 0
    mkdirSync(join(dir, 'server.log'), { recursive: true })
    const file = open()
    for (let i = 0; i < 5; i++) {
      file.write(`${i}\n`)
      await file.settled()
    }
    expect(file.dropped).toBe(5)
    expect(trouble).toMatchObject([{ path: join(dir, 'server.log'), error: expect.stringContaining('EISDIR') }])
    rmSync(join(dir, 'server.log'), { recursive: true })
    file.write('again\n')
    await file.settled()
    expect(read('server.log')).toBe('again\n')
    expect(trouble.at(-1)).toMatchObject({ recovered: true, dropped: 5 })
    await file.close()
  })

  test.skipIf(!existsSync('/dev/full'))(
    'on a full disk neither throws nor waits, and counts what it drops',
    async () => {
      trouble.length = 0
      const file = open({ path: '/dev/full', keep: 0, maxBytes: 1_000_000 })
      for (let i = 0; i < 3; i++) {
        file.write('line\n')
        await file.settled()
      }
      expect(file.dropped).toBe(3)
      expect(trouble).toMatchObject([{ error: expect.stringContaining('ENOSPC') }])
    },
  )

  test('holds so many bytes for a slow disk and drops what is more', async () => {
    const file = open({ bufferBytes: 30, maxBytes: 1_000_000 })
    for (let i = 0; i < 10; i++) file.write('0123456789\n')
    expect(file.dropped).toBeGreaterThan(0)
    await file.close()
    expect(read('server.log').length / 11 + file.dropped).toBe(10)
  })
})
