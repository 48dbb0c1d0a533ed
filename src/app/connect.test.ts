import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { serversIn } from '../client/index.ts'
import { connect, findServer, wayTo } from './connect.ts'
import { contextFile } from './context-file.ts'

const LOCAL = 'http://127.0.0.1:7999'
let home: string
let env: Record<string, string>

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'orrery-connect-'))
  env = { XDG_CONFIG_HOME: join(home, 'config'), ORRERY_DATA_DIR: join(home, 'data') }
  return () => rmSync(home, { recursive: true, force: true })
})

/** What a server that runs here leaves. */
function leaveServer(): void {
  mkdirSync(join(home, 'data'))
  const tokenFile = join(home, 'data', 'admin.token')
  writeFileSync(tokenFile, 'local-admin\n')
  writeFileSync(join(home, 'data', 'worker.token'), 'local-worker\n')
  writeFileSync(join(home, 'data', 'server.json'), JSON.stringify({ address: LOCAL, tokenFile, pid: 2 ** 22 + 7 }))
}

const keep = () =>
  contextFile(env).write({
    current: 'used',
    contexts: {
      used: { server: 'http://used.example', token: 'used-token' },
      other: { server: 'http://other.example', token: 'other-token' },
      bare: { server: 'http://bare.example' },
    },
  })

const found = async (options: Parameters<typeof findServer>[0]) => {
  const { address, addressFrom, token, tokenFrom } = await findServer(options, env)
  return { address, addressFrom, token: token?.reveal() ?? null, tokenFrom }
}

describe('the server that a command asks', () => {
  test('is looked for from what was written for the command to what happens to be there', async () => {
    expect(await found({})).toMatchObject({ address: 'http://127.0.0.1:7780', addressFrom: 'the default', token: null })
    leaveServer()
    expect(await found({})).toMatchObject({ address: LOCAL, token: 'local-admin' })
    await keep()
    expect(await found({})).toMatchObject({ address: 'http://used.example', token: 'used-token' })
    env['ORRERY_CONTEXT'] = 'bare'
    expect(await found({})).toMatchObject({
      address: 'http://bare.example',
      addressFrom: 'context bare (ORRERY_CONTEXT)',
    })
    env['ORRERY_SERVER'] = 'http://env.example'
    expect(await found({})).toMatchObject({ address: 'http://env.example', addressFrom: 'ORRERY_SERVER' })
    expect(await found({ context: 'other' })).toMatchObject({
      address: 'http://other.example',
      addressFrom: 'context other (--context)',
      token: 'other-token',
    })
    expect(await found({ context: 'other', server: 'http://flag.example' })).toMatchObject({
      address: 'http://flag.example',
      addressFrom: '--server',
      token: null,
    })
  })

  test('is never shown the token of another', async () => {
    leaveServer()
    await keep()
    expect(await found({ server: 'http://flag.example' })).toMatchObject({ token: null, tokenFrom: null })
    expect(await found({ server: LOCAL })).toMatchObject({ token: 'local-admin' })
    expect(await found({ server: LOCAL, role: 'worker' })).toMatchObject({ token: 'local-worker' })
    expect(await found({ context: 'bare' })).toMatchObject({ token: null })
  })

  test('is shown a token from the flag, the context that was named, the variable, then the context in use', async () => {
    await keep()
    env['ORRERY_TOKEN'] = 'env-token'
    expect(await found({})).toMatchObject({ token: 'env-token', tokenFrom: 'ORRERY_TOKEN' })
    expect(await found({ context: 'other' })).toMatchObject({
      token: 'other-token',
      tokenFrom: 'context other (--context)',
    })
    expect(await found({ context: 'other', token: 'flag-token' })).toMatchObject({ tokenFrom: '--token' })
    env['ORRERY_WORKER_TOKEN'] = 'worker-token'
    expect(await found({ role: 'worker' })).toMatchObject({ token: 'worker-token', tokenFrom: 'ORRERY_WORKER_TOKEN' })
  })

  test('is said to be gone when the process that this machine knows of has ended', async () => {
    leaveServer()
    const { known } = await findServer({}, env)
    expect(known).toEqual({
      localServer: join(home, 'data', 'server.json'),
      process: expect.stringContaining(process.platform === 'linux' ? 'which is gone' : ''),
      log: expect.stringContaining('standard error'),
    })
  })
})

describe('several servers of one installation', () => {
  test('stand with commas between them, and each must be an address', async () => {
    const named = await findServer({ server: 'http://127.0.0.1:1, http://127.0.0.1:2' }, env)
    expect(serversIn(named.address)).toEqual(['http://127.0.0.1:1', 'http://127.0.0.1:2'])
    expect(() => wayTo({ ...named, address: 'http://127.0.0.1:1,there' })).toThrow(
      expect.objectContaining({ code: 'config.value_unsupported' }),
    )
  })

  test('are all named when none can be reached', async () => {
    const client = await connect({ server: 'http://127.0.0.1:1,http://127.0.0.1:2' }, env)
    await expect(client.getHealth()).rejects.toMatchObject({
      code: 'client.server_unreachable',
      evidence: { layer: 'tcp', servers: ['http://127.0.0.1:1', 'http://127.0.0.1:2'] },
    })
  })
})

describe('the file of contexts', () => {
  test('may be read by its owner alone', async () => {
    await keep()
    expect(statSync(contextFile(env).path).mode & 0o777).toBe(0o600)
    expect((await contextFile(env).read()).current).toBe('used')
  })

  test('that is none is said to be so, and is not overwritten', async () => {
    mkdirSync(join(home, 'config', 'orrery'), { recursive: true })
    writeFileSync(contextFile(env).path, '{"contexts": [1]')
    await expect(contextFile(env).read()).rejects.toMatchObject({ code: 'config.invalid' })
    await expect(findServer({}, env)).rejects.toMatchObject({ code: 'config.invalid' })
    expect(await found({ server: 'http://flag.example' })).toMatchObject({ addressFrom: '--server' })
  })

  test('without the context that was named is a failure that names those that there are', async () => {
    await keep()
    await expect(findServer({ context: 'usde' }, env)).rejects.toMatchObject({
      code: 'context.not_found',
      evidence: { contexts: ['bare', 'other', 'used'], nearest: 'used' },
    })
  })

  test('and an authority that cannot be read is named', async () => {
    await expect(findServer({ server: 'https://a.example', ca: join(home, 'none.pem') }, env)).rejects.toMatchObject({
      code: 'file.unreadable',
    })
  })
})
