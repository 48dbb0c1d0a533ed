import { describe, expect, test } from 'vitest'
import { Failure } from '../../domain/failure.ts'
import { CliHarness } from '../testing/cli-harness.ts'
import { at } from '../testing/scripted-client.ts'

const value = 'ghp_hunter2'

describe('orrery secret set', () => {
  const set = async (args: string[], prepare: (cli: CliHarness) => void = () => {}) => {
    const cli = new CliHarness()
    prepare(cli)
    const exit = await cli.run('secret', 'set', ...args)
    return { cli, exit, call: cli.client.calls[0] }
  }

  test('sends values of arguments, of files and of standard input, and shows none', async () => {
    const { cli, exit, call } = await set(
      ['github', `token=${value}`, 'cert=@cert.pem', '--stdin', 'pass', '--namespace', 'staging'],
      (c) => {
        c.files['/srv/cert.pem'] = 'a\nb\n'
        c.stdinText = 'from-stdin\n'
      },
    )
    expect(exit).toBe(0)
    const values = { token: value, cert: 'a\nb\n', pass: 'from-stdin' }
    expect(call).toEqual(['putSecret', 'staging', 'github', { values, replace: false }])
    expect(cli.out).toBe('secret staging/github is set; it has 3 keys: token, cert, pass\n')
    expect(cli.out + cli.err).not.toMatch(/hunter2|from-stdin/)
  })

  test('reads lines of KEY=VALUE from a file', async () => {
    const { call } = await set(['db', '--from-env-file', 'db.env', '--replace'], (c) => {
      c.files['/srv/db.env'] = '# remark\n\nexport USER=ann\nPASS="a=b c"\nURL=\'x\'\n'
    })
    expect(call?.[3]).toEqual({ values: { USER: 'ann', PASS: 'a=b c', URL: 'x' }, replace: true })
  })

  test('remarks that a short value is not searched for in logs', async () => {
    expect((await set(['pin', 'n=123'])).cli.err).toContain('n is shorter than 4 characters')
  })

  test.for<[what: string, args: string[], says: RegExp]>([
    ['no value', ['github'], /no value for secret github is given[\s\S]*--stdin KEY/],
    ['a value without its key, which is not shown', ['github', value], /has not the form KEY=VALUE/],
    ['a key twice', ['github', 'a=x', 'a=y'], /the key a is given twice/],
    ['an empty value', ['github', 'a='], /the value of a \(argument\) is empty/],
    ['a key that cannot be one', ['github', '../a=x'], /is no name of a key/],
    ['a name that cannot be one', ['Git Hub', 'a=x'], /such as git-hub/],
    ['a line of a file that is none', ['github', '--from-env-file', 'x.env'], /line 2 of x.env has not the form/],
    ['a file that is not there', ['github', 'a=@nope'], /reading the value of a from nope/],
    ['a store and a server', ['github', 'a=x', '--data-dir', 'd', '--server', 'http://x'], /beside --server/],
  ])('refuses %s', async ([, args, says]) => {
    const { cli, exit } = await set(args, (c) => {
      c.files['/srv/x.env'] = 'A=b\nnonsense\n'
    })
    expect(exit).not.toBe(0)
    expect(cli.err).toMatch(says)
    expect(cli.err).not.toContain('hunter2')
    expect(cli.client.calls).toEqual([])
  })

  test('says how to do without a server when none was named and none is there', async () => {
    const failure = new Failure('client.server_unreachable', 'PUT /v1/namespaces/default/secret-values/github')
    const local = await set(['github', 'a=xyz1'], (c) => void c.client.failures.set('putSecret', failure))
    expect(local.cli.err).toContain('--store embedded.')
    const named = await set(
      ['github', 'a=xyz1', '--server', 'http://x'],
      (c) => void c.client.failures.set('putSecret', failure),
    )
    expect(named.cli.err).not.toContain('--store embedded')
  })

  test('works on a store in this process when one is named, without a worker', async () => {
    const { cli, exit } = await set(['github', 'a=xyz1', '--data-dir', 'd', '--secrets-key-file', 'k'])
    expect(exit).toBe(0)
    expect(cli.embedded).toMatchObject([
      { dataDir: '/srv/d', secrets: { keyFile: '/srv/k' }, idle: true, store: { kind: 'embedded' } },
    ])
    expect([cli.connects.length, cli.closed]).toEqual([0, 1])
  })
})

test('orrery secret list shows names and keys', async () => {
  const cli = new CliHarness()
  expect(await cli.run('secret', 'list')).toBe(0)
  expect(cli.err).toContain('No secret is stored in namespace default')
  cli.client.secrets = [
    {
      namespace: 'default',
      name: 'github',
      keys: ['token', 'user'],
      sealedBy: ['0123456789ab'],
      updatedAt: at(-60_000),
    },
  ]
  await cli.run('secret', 'list', '--namespace', 'staging')
  expect(cli.out).toMatch(/^NAME +KEYS +SET +ENCRYPTED BY\ngithub +token, user +1m 0s ago +0123456789ab\n$/)
  expect(cli.client.calls.at(-1)?.slice(0, 2)).toEqual(['listSecrets', 'staging'])
})

test('orrery secret show says of each key where it comes from and where else it is looked for', async () => {
  const cli = new CliHarness()
  const place = (from: 'store' | 'environment' | 'file', name: string, found: boolean, note: string | null) => ({
    from,
    name,
    found,
    note,
  })
  cli.client.secret = {
    namespace: 'default',
    name: 'github',
    keys: [
      {
        key: 'token',
        stored: { sealedBy: 'k1', updatedAt: at(-5_000) },
        places: [
          place('store', 's', true, null),
          place('environment', 'V', true, null),
          place('file', '/f', false, 'no such file'),
        ],
      },
      { key: 'nope', stored: null, places: [place('store', 's', false, 'not there')] },
    ],
  }
  expect(await cli.run('secret', 'show', 'github', '--key', 'nope')).toBe(0)
  expect(cli.client.calls[0]).toEqual(['getSecret', 'default', 'github', { keys: ['nope'] }])
  expect(cli.out).toBe(
    [
      'secret github',
      '',
      '  token comes from the store, set 5.0s ago, encrypted by key k1',
      '    the store s: used',
      '    the variable V: there, but a place before it wins',
      '    the file /f: no such file',
      '',
      '  nope is nowhere',
      '    the store s: not there',
      '',
    ].join('\n'),
  )
})

test('orrery secret delete removes a secret, or keys of it', async () => {
  const cli = new CliHarness()
  expect(await cli.run('secret', 'delete', 'github', 'token')).toBe(0)
  expect(cli.client.calls[0]).toEqual(['deleteSecret', 'default', 'github', { keys: ['token'] }])
  expect(cli.out).toBe('key token of secret github is deleted\n')
  cli.client.failures.set('deleteSecret', new Failure('secret.not_found', 'looking for secret default/github'))
  expect(await cli.run('secret', 'delete', 'github')).toBe(78)
  expect(cli.err).toContain('secret.not_found')
})

describe('orrery secret rotate', () => {
  const answer = (resealed: number, remaining: number, more: object = {}) => ({
    activeKey: 'new',
    olderKeys: ['old'],
    resealed,
    remaining,
    unreadable: [],
    ...more,
  })

  test('goes on until nothing remains, and shows how far it is', async () => {
    const cli = new CliHarness()
    cli.client.rotations = [answer(200, 50), answer(50, 0)]
    expect(await cli.run('secret', 'rotate', '--new-key')).toBe(0)
    expect(cli.client.calls.map((call) => call[1])).toEqual([{ newKey: true }, undefined])
    expect(cli.err).toContain('200 of 250 encrypted by key new\n  250 of 250 encrypted by key new\n')
    expect(cli.err).toContain('Older keys are still there for backups: old')
    expect(cli.out).toBe('all stored secrets are encrypted by key new; 250 were encrypted anew\n')
  })

  test('ends with secrets.key_wrong when values are left that no key opens', async () => {
    const cli = new CliHarness()
    cli.client.rotations = [answer(1, 0, { unreadable: [{ keyId: 'lost', values: 2 }] })]
    expect(await cli.run('secret', 'rotate')).toBe(78)
    expect(cli.err).toMatch(/secrets\.key_wrong[\s\S]*2 of them cannot be decrypted[\s\S]*lost/)
  })
})

test('orrery secret generate-key prints a key of 32 bytes and nothing else on standard output', async () => {
  const cli = new CliHarness()
  expect(await cli.run('secret', 'generate-key')).toBe(0)
  expect(Buffer.from(cli.out.trim(), 'base64')).toHaveLength(32)
  expect(cli.err).toContain('--secrets-key-file')
})
