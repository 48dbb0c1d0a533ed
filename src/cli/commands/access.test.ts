import { beforeEach, describe, expect, test } from 'vitest'
import { Failure } from '../../domain/failure.ts'
import { CliHarness } from '../testing/cli-harness.ts'
import { tokenView } from '../testing/scripted-client.ts'

let cli: CliHarness
beforeEach(() => {
  cli = new CliHarness()
})

const SERVER = 'http://127.0.0.1:7780' // where the scripted client says that it is

describe('token', () => {
  test('create prints the token alone, so that it can be piped; what it is goes beside it', async () => {
    const flags = ['--name', 'ci', '--role', 'operator', '--namespace', 'a', '--namespace', 'b', '--expires', '90d']
    expect(await cli.run('token', 'create', ...flags, '--organisation', 'acme')).toBe(0)
    expect(cli.out).toBe('orr_once\n')
    expect(cli.err).toContain('orrery token revoke tok_1')
    expect(cli.client.calls).toEqual([
      [
        'createToken',
        { name: 'ci', role: 'operator', organisation: 'acme', namespaces: ['a', 'b'], expiresInSeconds: 7_776_000 },
      ],
    ])
  })

  test('create says what is wrong before anything is asked', async () => {
    expect(await cli.run('token', 'create', '--name', 'x', '--role', 'opertor')).toBe(2)
    expect(cli.err).toContain('Did you mean operator?')
    expect(await cli.run('token', 'create', '--name', 'x', '--role', 'admin', '--expires', 'soon')).toBe(2)
    expect(cli.err).toContain('90d')
    expect(cli.connects).toEqual([])
  })

  test('list shows what a token may, and never what it is', async () => {
    cli.client.tokens = [
      tokenView({ organisation: 'acme', namespaces: ['team'] }),
      tokenView({ id: 'tok_2', state: 'expired' }),
    ]
    expect(await cli.run('token', 'list', '--all')).toBe(0)
    expect(cli.out).toMatch(/tok_1 .*ci .*operator .*team of acme .*good/)
    expect(cli.out).toMatch(/tok_2 .*all namespaces .*expired/)
    expect(cli.client.calls[0]).toEqual(['listTokens', { all: true, limit: 500 }])
  })

  test('revoke takes an id, or a name that one token has', async () => {
    cli.client.tokens = [
      tokenView({ id: 'tok_1', name: 'ci' }),
      tokenView({ id: 'tok_2', name: 'cd' }),
      tokenView({ id: 'tok_3', name: 'cd' }),
    ]
    expect(await cli.run('token', 'revoke', 'tok_9')).toBe(0)
    expect(await cli.run('token', 'revoke', 'ci')).toBe(0)
    expect(cli.client.calls.filter(([name]) => name === 'revokeToken')).toEqual([
      ['revokeToken', 'tok_9'],
      ['revokeToken', 'tok_1'],
    ])
    expect(await cli.run('token', 'revoke', 'cd')).toBe(2)
    expect(cli.err).toContain('tok_2, tok_3')
    expect(await cli.run('token', 'revoke', 'nobody')).toBe(2)
    expect(cli.err).toContain('token.not_found')
  })
})

describe('auth', () => {
  test('login tries the token, then keeps it with its server as the context in use', async () => {
    cli.stdinText = 'orr_secret\n'
    expect(await cli.run('auth', 'login', '--server', SERVER, '--name', 'home')).toBe(0)
    expect(cli.connects).toEqual([{ server: SERVER, token: 'orr_secret' }])
    expect(cli.contexts).toEqual({ current: 'home', contexts: { home: { server: SERVER, token: 'orr_secret' } } })
    expect(cli.out + cli.err).not.toContain('orr_secret')
    expect(await cli.run('auth', 'login', '--token', 'orr_other', '--ca', 'ca.pem')).toBe(0)
    expect(cli.contexts.current).toBe('127.0.0.1:7780')
    expect(cli.contexts.contexts['127.0.0.1:7780']).toEqual({ server: SERVER, token: 'orr_other', ca: '/srv/ca.pem' })
  })

  test('login keeps nothing when the token is refused, missing, or the name is none', async () => {
    cli.client.failures.set('whoami', new Failure('client.unauthorized', 'GET /v1/whoami'))
    expect(await cli.run('auth', 'login', '--token', 'bad')).toBe(77)
    cli.client.failures.clear()
    expect(await cli.run('auth', 'login')).toBe(2)
    expect(cli.err).toContain('no token was given')
    expect(await cli.run('auth', 'login', '--token', 't', '--name', 'a b')).toBe(2)
    expect(cli.contexts).toEqual({ current: null, contexts: {} })
  })

  test('logout forgets the token and keeps the server', async () => {
    cli.contexts = { current: 'a', contexts: { a: { server: SERVER, token: 't' } } }
    expect(await cli.run('auth', 'logout')).toBe(0)
    expect(cli.contexts).toEqual({ current: 'a', contexts: { a: { server: SERVER } } })
    expect(cli.err).toContain('token revoke')
    expect(await cli.run('auth', 'logout')).toBe(0)
    expect(cli.err).toContain('Context a keeps no token')
  })

  test('whoami says the role, what it sees and until when', async () => {
    cli.client.who = {
      ...cli.client.who,
      role: 'viewer',
      organisation: 'acme',
      namespaces: ['x'],
      expiresAt: '2027-01-01T00:00:00Z',
    }
    expect(await cli.run('auth', 'whoami', '--context', 'a')).toBe(0)
    expect(cli.out).toBe(
      `me (tok_me) at ${SERVER}\n  role    viewer\n  sees    x of acme\n  until   2027-01-01T00:00:00Z\n`,
    )
    expect(cli.connects).toEqual([{ context: 'a' }])
  })
})

test('can-i answers with words and with its exit code', async () => {
  expect(await cli.run('can-i', 'cancel', 'runs', '--namespace', 'team')).toBe(0)
  expect(cli.out).toBe('yes  the token has the role admin\n')
  expect(cli.client.calls).toEqual([['canI', { verb: 'cancel', resource: 'runs', namespace: 'team' }]])
  cli.client.may = { allowed: false, required: 'admin', role: 'viewer', reason: 'admin is needed' }
  expect(await cli.run('can-i', 'create', 'tokens')).toBe(1)
  expect(cli.out).toContain('no  admin is needed')
})

describe('context', () => {
  test('set, use, list, show and delete; a token is never shown', async () => {
    expect(
      await cli.run('context', 'set', 'prod', '--server', 'https://a.example', '--token', 'orr_s', '--ca', 'c.pem'),
    ).toBe(0)
    expect(await cli.run('context', 'set', 'test', '--server', 'http://b.example')).toBe(0)
    expect(cli.contexts).toEqual({
      current: 'prod',
      contexts: {
        prod: { server: 'https://a.example', token: 'orr_s', ca: '/srv/c.pem' },
        test: { server: 'http://b.example' },
      },
    })
    expect(await cli.run('context', 'use', 'test')).toBe(0)
    expect(await cli.run('context', 'list')).toBe(0)
    expect(cli.out).toMatch(/prod +https:\/\/a\.example +kept/)
    expect(cli.out).toMatch(/\* +test +http:\/\/b\.example +none/)
    expect(await cli.run('context', 'show', 'prod')).toBe(0)
    expect(cli.out).toContain('kept, not shown')
    expect(await cli.run('context', 'delete', 'test')).toBe(0)
    expect(cli.contexts).toEqual({
      current: null,
      contexts: { prod: { server: 'https://a.example', token: 'orr_s', ca: '/srv/c.pem' } },
    })
    expect(cli.out).not.toContain('orr_s')
  })

  test('a token that is kept stays with its server', async () => {
    cli.contexts = { current: null, contexts: { a: { server: 'http://a.example', token: 't' } } }
    await cli.run('context', 'set', 'a', '--ca', '/c.pem')
    expect(cli.contexts.contexts['a']).toEqual({ server: 'http://a.example', token: 't', ca: '/c.pem' })
    await cli.run('context', 'set', 'a', '--server', 'http://evil.example')
    expect(cli.contexts.contexts['a']).toEqual({ server: 'http://evil.example', ca: '/c.pem' })
  })

  test('one that is not there is named with the nearest, and a variable that wins is said', async () => {
    cli.contexts = { current: null, contexts: { prod: { server: 'http://a.example' } } }
    cli.env = { ORRERY_SERVER: 'http://b.example' }
    expect(await cli.run('context', 'use', 'prd')).toBe(2)
    expect(cli.err).toContain('context.not_found')
    expect(cli.err).toContain('Did you mean prod?')
    expect(await cli.run('context', 'use', 'prod')).toBe(0)
    expect(cli.err).toContain('ORRERY_SERVER is set and wins over it')
    expect(await cli.run('context', 'set', 'new')).toBe(2)
    expect(await cli.run('context', 'set', 'new', '--server', 'nonsense')).toBe(2)
  })
})

test('audit shows who changed what', async () => {
  cli.client.audit = [
    {
      id: 'aud_1',
      at: '2026-01-02T12:00:00.000Z',
      actor: { id: 'tok_1', name: 'ci', role: 'operator' },
      organisation: 'default',
      namespace: 'team',
      action: 'runs.cancel',
      object: 'run_1',
      outcome: 'done',
      address: '192.0.2.7',
      requestId: 'req_1',
      details: null,
    },
  ]
  expect(await cli.run('audit', '--action', 'runs.cancel', '--since', '2026-01-01T00:00:00Z', '--limit', '5')).toBe(0)
  expect(cli.out).toMatch(/2026-01-02T12:00:00\.000Z +ci +runs\.cancel +run_1 +team +done +192\.0\.2\.7/)
  expect(cli.client.calls).toEqual([
    ['listAudit', { limit: 5, action: 'runs.cancel', since: '2026-01-01T00:00:00.000Z' }],
  ])
  expect(await cli.run('audit', '--limit', '0')).toBe(2)
})
