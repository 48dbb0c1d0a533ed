import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { type Log, silentLog } from '../base/index.ts'
import { LIMITS } from '../domain/index.ts'
import { SealingKey } from '../store/index.ts'
import { KnownSecrets } from '../telemetry/index.ts'
import { openSecrets } from './open-secrets.ts'
import { openKeyRing } from './secret-keys.ts'
import { secretSources } from './secret-sources.ts'

const root = mkdtempSync(join(tmpdir(), 'orrery-secrets-'))
afterAll(() => rmSync(root, { recursive: true, force: true }))

function write(path: string, text: string): string {
  const full = join(root, path)
  mkdirSync(dirname(full), { recursive: true })
  writeFileSync(full, text, { mode: 0o600 })
  return full
}

test('keys that were named and cannot be read are told of when a server starts, not when it needs them', async () => {
  const open = (keyFile: string | null) =>
    openSecrets({
      ...{ secrets: { keyFile, dir: null, envPrefix: 'X_' }, store: { kind: 'embedded' }, dataDir: root },
      ...{ env: {}, log: silentLog, known: new KnownSecrets({ max: 10 }) },
    })
  await expect(open(join(root, 'nowhere.key'))).rejects.toMatchObject({
    code: 'file.unreadable',
    evidence: { path: join(root, 'nowhere.key') },
    remediation: expect.stringContaining('--secrets-key-file'),
  })
  await expect(open(null)).resolves.toBeDefined()
})

describe('variables', () => {
  const env = { ORRERY_SECRET_A: 'x', ORRERY_TOKEN: 'never', PATH: '/bin' }
  const sources = secretSources({ env, envPrefix: 'ORRERY_SECRET_', dir: null })

  test('are read when they begin with the prefix, and no others', () => {
    expect(['ORRERY_SECRET_A', 'ORRERY_TOKEN', 'PATH'].map((name) => sources.readVariable(name))).toEqual([
      'x',
      undefined,
      undefined,
    ])
  })

  test('are all there is without a directory', async () => {
    expect(await sources.readFile(['a'])).toEqual({ kind: 'absent' })
    expect(await sources.listFiles(['a'])).toEqual([])
  })
})

describe('files of secrets', () => {
  const dir = join(root, 'dir')
  const sources = secretSources({ env: {}, envPrefix: 'X_', dir })
  write('dir/default/github/token', 'of the file\n')
  write('dir/github/empty', '\n')
  write('dir/github/large', 'x'.repeat(LIMITS.secretValueBytes + 1))
  write('outside', 'not for steps')
  write('dir/github/.hidden', 'x')
  symlinkSync(join(root, 'outside'), join(dir, 'github/out'))
  symlinkSync(root, join(dir, 'up'))
  symlinkSync('../default/github/token', join(dir, 'github/inside'))

  test('give their text without the newline at its end, through links that stay inside', async () => {
    const found = { kind: 'found', value: 'of the file' }
    expect(await sources.readFile(['default', 'github', 'token'])).toEqual(found)
    expect(await sources.readFile(['github', 'inside'])).toEqual(found)
  })

  test.for<[what: string, path: string[], why: RegExp]>([
    ['a link that leads out', ['github', 'out'], /a link leads out to/],
    ['a directory that leads out', ['up', 'outside'], /a link leads out to/],
    ['dots', ['..', 'outside'], /leads out of the directory/],
    ['a slash in a name', ['../outside'], /leads out of the directory/],
    ['an empty file', ['github', 'empty'], /is empty/],
    ['a large one', ['github', 'large'], /is larger than/],
    ['a directory', ['default', 'github'], /is a directory/],
  ])('are refused: %s', async ([, path, why]) => {
    expect(await sources.readFile(path)).toEqual({ kind: 'refused', why: expect.stringMatching(why) })
  })

  test('that are not there are absent', async () => {
    expect(await sources.readFile(['github', 'nope'])).toEqual({ kind: 'absent' })
    expect(await sources.readFile(['default', 'github', 'token', 'x'])).toEqual({ kind: 'absent' })
  })

  test('are listed without those that are hidden', async () => {
    expect((await sources.listFiles(['github'])).sort()).toEqual(['empty', 'inside', 'large', 'out'])
  })
})

describe('the keys of a server', () => {
  const open = (options: { file?: string; variable?: string; ownFile?: string; log?: Log }) =>
    openKeyRing({
      given: { file: options.file ?? null, variable: options.variable },
      ownFile: options.ownFile ?? null,
      log: options.log ?? silentLog,
    })

  test('of the embedded store are a file of its own, made when it is first needed, for its owner alone', async () => {
    const file = join(root, 'data/secrets.key')
    const ring = open({ ownFile: file })
    expect(await ring.ids()).toEqual([])
    const { id } = await ring.active('test')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect((await open({ ownFile: file }).active('test')).id).toBe(id)
    const next = await ring.renew()
    expect(await open({ ownFile: file }).ids()).toEqual([next, id])
    expect(readFileSync(file, 'utf8').match(/^#/gm)).toHaveLength(1)
    expect(statSync(file).mode & 0o777).toBe(0o600)
  })

  test('come from a file or a variable that was given, which is never written', async () => {
    const key = SealingKey.generate()
    const file = write('given.key', `${key.reveal()}\n`)
    for (const ring of [open({ file, ownFile: join(root, 'own') }), open({ variable: key.reveal() })]) {
      expect((await ring.active('test')).id).toBe(key.id)
      await expect(ring.renew()).rejects.toMatchObject({ code: 'request.invalid' })
    }
  })

  test('from both at once are refused', () => {
    expect(() => open({ file: '/keys', variable: 'x' })).toThrow(expect.objectContaining({ code: 'config.invalid' }))
  })

  test('from a file that is not there are a failure that names it', async () => {
    const file = join(root, 'nowhere')
    await expect(open({ file }).active('test')).rejects.toMatchObject({
      code: 'file.unreadable',
      evidence: { path: file },
    })
  })

  test('in a file that others can read are used, with a warning', async () => {
    const file = write('open.key', SealingKey.generate().reveal())
    chmodSync(file, 0o644)
    const warned: unknown[] = []
    await open({ file, log: { ...silentLog, warn: (...args) => void warned.push(args) } }).active('test')
    expect(warned).toEqual([['key file can be read by others', { file, mode: '644', wanted: '600' }]])
  })
})
