import { createServer as createHttp } from 'node:http'
import { createServer as createHttps } from 'node:https'
import { type AddressInfo, createServer as createTcp, type Server } from 'node:net'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { canMakeCertificates, selfSigned, signedBy } from '../support/certificates.ts'
import { runOrrery } from '../support/processes.ts'
import { makeDir, refused, startUp } from './rig.ts'

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()))
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port // a TCP server
}

/** A home without anything in it, so that nothing of this machine is found. */
const emptyEnv = (dir: string) => ({ XDG_CONFIG_HOME: join(dir, 'config'), ORRERY_DATA_DIR: join(dir, 'data') })

// Many processes, one after another.
vi.setConfig({ testTimeout: 180_000 })

describe('CFG-9: the server cannot be reached, or refuses: which layer, and what gave the address', () => {
  const failureOf = async (args: string[], env: Record<string, string> = {}) => {
    const ended = await runOrrery([...args, '--json'], { env: { ...emptyEnv(makeDir()), ...env } })
    const { failure } = JSON.parse(ended.stderr.trim().split('\n').at(-1) ?? '{}') as { failure: unknown }
    return { exit: ended.code, failure }
  }
  const list = ['runs', 'list']

  test('the name is not known', async () => {
    expect(await failureOf([...list, '--server', 'http://no-such-host.invalid:7780'])).toMatchObject({
      exit: 69,
      failure: {
        code: 'client.server_unreachable',
        evidence: { layer: 'name', address: 'http://no-such-host.invalid:7780', addressFrom: '--server' },
        remediation: expect.stringContaining('ORRERY_SERVER, ORRERY_CONTEXT, the context in use'),
      },
    })
  })

  test('nothing listens there; what a server of this machine left tells where its log is', async () => {
    const server = createTcp()
    const port = await listen(server)
    await new Promise((resolve) => server.close(resolve))
    const address = `http://127.0.0.1:${port}`
    expect(await failureOf(list, { ORRERY_SERVER: address })).toMatchObject({
      exit: 69,
      failure: {
        code: 'client.server_unreachable',
        evidence: { layer: 'tcp', error: 'ECONNREFUSED', addressFrom: 'ORRERY_SERVER' },
        remediation: expect.stringContaining('orrery up'),
      },
    })
    const dir = makeDir()
    const env = emptyEnv(dir)
    mkdirSync(env.ORRERY_DATA_DIR)
    const logFile = join(dir, 'server.log')
    writeFileSync(logFile, 'started\n')
    const state = join(env.ORRERY_DATA_DIR, 'server.json')
    writeFileSync(state, JSON.stringify({ address, tokenFile: '/none', pid: process.pid, logFile }))
    expect((await failureOf(list, env)).failure).toMatchObject({
      evidence: { layer: 'tcp', addressFrom: state, localServer: state, process: String(process.pid), log: logFile },
    })
  })

  test('something answers that is no Orrery', async () => {
    const port = await listen(createHttp((_, response) => response.end('<h1>It works!</h1>')))
    const dir = makeDir()
    const env = emptyEnv(dir)
    const set = await runOrrery(['context', 'set', 'prod', '--server', `http://127.0.0.1:${port}`], { env })
    expect(set.code).toBe(0)
    expect((await failureOf(list, env)).failure).toMatchObject({
      code: 'client.server_unreachable',
      evidence: {
        layer: 'not-orrery',
        begin: '<h1>It works!</h1>',
        addressFrom: expect.stringMatching(/^context prod \(in use, .*contexts\.json\)$/),
      },
    })
  })

  test.skipIf(!canMakeCertificates)(
    'the certificate: by itself, by a stranger, for another name, expired, or none at all',
    async () => {
      const dir = makeDir()
      const names = 'DNS:localhost,IP:127.0.0.1'
      const authority = selfSigned(dir, 'authority', 'DNS:authority.example')
      const own = selfSigned(dir, 'own', names)
      const good = signedBy(dir, 'authority', { name: 'good', altNames: names })
      const expired = signedBy(dir, 'authority', { name: 'expired', altNames: names, expired: true })
      const foreign = signedBy(dir, 'authority', { name: 'foreign', altNames: 'DNS:elsewhere.example' })
      const serve = ({ cert, key }: { cert: string; key: string }) =>
        listen(createHttps({ cert, key }, (_, response) => response.end('<h1>')))
      const at = async (port: number, ...more: string[]) =>
        (await failureOf([...list, '--server', `https://127.0.0.1:${port}`, ...more])).failure
      const failed = (reason: string) => ({
        code: 'client.tls_failed',
        evidence: { layer: 'tls', reason, addressFrom: '--server' },
      })
      const trusted = ['--ca', authority.certFile]
      const goodPort = await serve(good)
      expect(await at(await serve(own))).toMatchObject({
        ...failed('self-signed'),
        remediation: expect.stringContaining('--ca FILE'),
      })
      expect(await at(goodPort)).toMatchObject(failed('unknown-authority'))
      expect(await at(await serve(foreign), ...trusted)).toMatchObject(failed('wrong-host'))
      expect(await at(await serve(expired), ...trusted)).toMatchObject(failed('expired'))
      const plain = await listen(createHttp((_, response) => response.end('{}')))
      expect(await at(plain)).toMatchObject({ ...failed('not-tls'), remediation: expect.stringContaining('http://') })
      // With the authority it is reached, and found to be no Orrery.
      expect(await at(goodPort, ...trusted)).toMatchObject({ evidence: { layer: 'not-orrery' } })
    },
  )

  test('no token, a bad one, and one that is not enough: from where it came is said', async () => {
    const up = await startUp(['--store', 'embedded', '--no-worker'])
    const server = ['--server', up.address]
    expect(await failureOf([...list, ...server])).toMatchObject({
      exit: 77,
      failure: {
        code: 'client.unauthorized',
        evidence: { token: 'missing', tokenFrom: 'none was found', address: up.address, addressFrom: '--server' },
        remediation: expect.stringContaining('ORRERY_TOKEN'),
      },
    })
    expect((await failureOf([...list, ...server], { ORRERY_TOKEN: 'orr_wrong' })).failure).toMatchObject({
      code: 'client.unauthorized',
      evidence: { token: 'unknown, revoked or expired', tokenFrom: 'ORRERY_TOKEN' },
    })
    const made = await up.client.createToken({ name: 'reader', role: 'viewer' })
    const reader = { ORRERY_TOKEN: made.token }
    expect(await failureOf(['token', 'list', ...server], reader)).toMatchObject({
      exit: 77,
      failure: {
        code: 'client.forbidden',
        evidence: { role: 'viewer', required: 'admin', tokenFrom: 'ORRERY_TOKEN', addressFrom: '--server' },
      },
    })
    const may = await runOrrery(['can-i', 'list', 'runs', ...server], { env: { ...emptyEnv(makeDir()), ...reader } })
    expect([may.code, may.stdout]).toEqual([0, 'yes  the token has the role viewer\n'])
  })
})

describe('a server beyond this machine', () => {
  test('does not start in the clear, unless it is said that something else speaks TLS', async () => {
    const args = ['up', '--host', '0.0.0.0', '--port', '0', '--no-worker', '--data-dir', makeDir()]
    expect(await refused(args)).toMatchObject({
      exit: 78,
      failure: { code: 'config.insecure_listen', remediation: expect.stringContaining('--tls-cert') },
    })
  })

  test.skipIf(!canMakeCertificates)(
    'speaks TLS; people log in, are told who they are, and see who did what',
    async () => {
      const dir = makeDir()
      const { certFile, keyFile } = selfSigned(dir, 'server', 'DNS:localhost,IP:127.0.0.1')
      const dataDir = makeDir()
      const tls = ['--tls-cert', certFile, '--tls-key', keyFile]
      const up = await startUp(['--store', 'embedded', '--no-worker', ...tls], { dataDir })
      expect(up.address).toMatch(/^https:/)
      const tokenFile = join(dataDir, 'admin.token')
      expect(statSync(tokenFile).mode & 0o777).toBe(0o600)

      const env = emptyEnv(dir)
      const orrery = (args: string[], stdin?: string) =>
        runOrrery(args, { env, ...(stdin === undefined ? {} : { stdin }) })
      const login = ['auth', 'login', '--server', up.address, '--ca', certFile, '--name', 'prod']
      expect(await orrery(login, readFileSync(tokenFile, 'utf8'))).toMatchObject({ code: 0 })
      expect(statSync(join(dir, 'config', 'orrery', 'contexts.json')).mode & 0o777).toBe(0o600)
      expect((await orrery(['auth', 'whoami'])).stdout).toContain('role    admin')
      const made = await orrery(['token', 'create', '--name', 'ci', '--role', 'operator', '--organisation', 'acme'])
      expect(made.stdout).toMatch(/^orr_[\w-]{43}\n$/)
      const asCi = (args: string[]) => orrery([...args, '--token', made.stdout.trim()])
      expect((await asCi(['auth', 'whoami'])).stdout).toContain('all namespaces of acme')
      expect((await asCi(['can-i', 'create', 'tokens'])).code).toBe(1)
      expect(await orrery(['token', 'revoke', 'ci'])).toMatchObject({ code: 0 })
      expect((await asCi(['auth', 'whoami'])).code).toBe(77)
      const audit = JSON.parse((await orrery(['audit', '--json'])).stdout) as {
        entries: { action: string; address: string }[]
      }
      expect(audit.entries.map((entry) => [entry.action, entry.address])).toEqual([
        ['tokens.revoke', '127.0.0.1'],
        ['tokens.create', '127.0.0.1'],
      ])
      await orrery(['auth', 'logout'])
      expect((await orrery(['auth', 'whoami'])).code).toBe(77)
    },
  )
})
