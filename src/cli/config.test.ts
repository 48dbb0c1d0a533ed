import { describe, expect, test } from 'vitest'
import { type ConfigInput, getConfig, loadConfig } from './config.ts'

const load = (input: Partial<ConfigInput>) => loadConfig({ flags: {}, env: {}, file: null, cwd: '/srv', ...input })
const file = (text: string) => ({ path: '/etc/orrery/orrery.yaml', text })

function loaded(input: Partial<ConfigInput>) {
  const outcome = load(input)
  if (outcome.kind !== 'loaded') throw new Error(JSON.stringify(outcome.problems))
  return outcome
}
function problemsOf(input: Partial<ConfigInput>) {
  const outcome = load(input)
  if (outcome.kind !== 'refused') throw new Error('expected problems')
  return outcome.problems
}

describe('configuration', () => {
  test('without anything it is an embedded store on the loopback address', () => {
    expect(loaded({}).config).toEqual({
      store: { kind: 'embedded' },
      dataDir: null,
      secrets: { keyFile: null, dir: null, envPrefix: 'ORRERY_SECRET_' },
      host: '127.0.0.1',
      port: 7780,
      tls: null,
      trustedProxies: [],
      corsOrigins: [],
      modules: {},
      programs: { files: null, hostCommands: [] },
      capacity: 16,
      labels: {},
      worker: true,
      logFormat: 'text',
      logLevel: 'info',
      logFiles: null,
      metrics: true,
      metricsPort: null,
      metricsHost: '127.0.0.1',
    })
  })

  test('secrets are found where flags, variables and file say, by absolute paths', () => {
    const { secrets } = loaded({
      flags: { secretsDir: 'secrets' },
      env: { ORRERY_SECRETS_ENV_PREFIX: 'TEAM_SECRET_' },
      file: file('secretsKeyFile: ./keys\n'),
    }).config
    expect(secrets).toEqual({ keyFile: '/etc/orrery/keys', dir: '/srv/secrets', envPrefix: 'TEAM_SECRET_' })
  })

  test.for(['', 'ORRERY_', 'ORRERY_SECRETS_', 'ORRERY_ADMIN_', 'team_', 'TEAM', '_'])(
    'the prefix %j is refused: by it a variable could be read that is no secret for steps',
    (prefix) => {
      expect(problemsOf({ flags: { secretsEnvPrefix: prefix } })).toMatchObject([
        { code: 'config.value_unsupported', path: '--secrets-env-prefix' },
      ])
    },
  )

  test('a flag wins over a variable, a variable over the file, the file over the default', () => {
    const text = 'port: 1\nhost: file\nlogLevel: warn\ninsecureHttp: true\n'
    const { config, sources } = loaded({
      flags: { port: '3' },
      env: { ORRERY_PORT: '2', ORRERY_HOST: 'env' },
      file: file(text),
    })
    expect([config.port, config.host, config.logLevel, config.logFormat]).toEqual([3, 'env', 'warn', 'text'])
    expect([sources.port, sources.host, sources.logLevel, sources.logFormat]).toEqual([
      '--port',
      'ORRERY_HOST',
      '/etc/orrery/orrery.yaml:3',
      'default',
    ])
  })

  test('paths of flags are relative to the directory of the caller, those of a file to the file', () => {
    const { config } = loaded({
      flags: { dataDir: 'data' },
      file: file('modules:\n  lib: ./lib.ts\n'),
    })
    expect(config.dataDir).toBe('/srv/data')
    expect(config.modules).toEqual({ lib: '/etc/orrery/lib.ts' })
    expect(loaded({ flags: { modules: ['a=x.ts', 'b=/y.ts'] } }).config.modules).toEqual({
      a: '/srv/x.ts',
      b: '/y.ts',
    })
    expect(loaded({ env: { ORRERY_LABELS: 'zone=a, gpu=yes' } }).config.labels).toEqual({ zone: 'a', gpu: 'yes' })
  })

  test('an empty variable is as good as none', () => {
    expect(loaded({ env: { ORRERY_PORT: '' } }).config.port).toBe(7780)
  })

  test('all problems of a file come at once, each with its place and the nearest key', () => {
    expect(problemsOf({ file: file('store: postgress\nprot: 80\nport: many\nlabels: [1]\n') })).toEqual([
      {
        code: 'config.key_unknown',
        message: 'there is no setting "prot"',
        path: 'prot',
        file: '/etc/orrery/orrery.yaml',
        line: 2,
        column: 1,
        nearest: 'port',
      },
      {
        code: 'config.value_unsupported',
        message: '"postgress" is not supported; accepted: embedded, postgres',
        path: 'store',
        file: '/etc/orrery/orrery.yaml',
        line: 1,
        column: 8,
        nearest: 'postgres',
      },
      {
        code: 'config.value_unsupported',
        message: '"many" is not supported; accepted: a whole number from 0 to 65535',
        path: 'port',
        file: '/etc/orrery/orrery.yaml',
        line: 3,
        column: 7,
      },
      {
        code: 'config.value_unsupported',
        message: '[1] is not supported; accepted: pairs such as name=value',
        path: 'labels',
        file: '/etc/orrery/orrery.yaml',
        line: 4,
        column: 9,
      },
    ])
  })

  test('a file that is no YAML, or no mapping, is refused with its place', () => {
    expect(problemsOf({ file: file('port: [1\n') })[0]).toMatchObject({ code: 'config.invalid', line: 2 })
    expect(problemsOf({ file: file('- port\n') })[0]).toMatchObject({ code: 'config.invalid', line: 1, column: 1 })
    expect(problemsOf({ file: file('port: 1\nport: 2\n') })[0]).toMatchObject({ code: 'config.invalid', line: 2 })
    expect(load({ file: file('# nothing\n') }).kind).toBe('loaded')
  })

  test('postgres without an address is refused, naming the flag, the variable and an example', () => {
    const refuse = () =>
      getConfig({ flags: { store: 'postgres' }, env: { ORRERY_POSTGRES_DSN: '' }, file: null, cwd: '/' })
    expect(refuse).toThrow(
      expect.objectContaining({
        code: 'config.storage_dsn_missing',
        evidence: expect.objectContaining({
          flag: '--postgres-dsn',
          variable: 'ORRERY_POSTGRES_DSN',
          example: 'postgres://orrery:secret@db.example:5432/orrery',
        }),
      }),
    )
  })

  test('a DSN on the command line chooses postgres, one in the environment alone does not', () => {
    const dsn = 'postgres://u:p@h/db'
    expect(loaded({ flags: { postgresDsn: dsn } }).config.store.kind).toBe('postgres')
    expect(loaded({ env: { ORRERY_POSTGRES_DSN: dsn } }).config.store.kind).toBe('embedded')
    const both = loaded({ flags: { store: 'postgres' }, env: { ORRERY_POSTGRES_DSN: dsn } }).config.store
    expect(both.kind === 'postgres' && both.dsn.reveal()).toBe(dsn)
    expect(JSON.stringify(both)).not.toContain('u:p')
  })

  test('a DSN that cannot be right is refused without being shown', () => {
    const [problem] = problemsOf({ flags: { postgresDsn: 'mysql://u:hunter2@h' } })
    expect(problem?.code).toBe('config.value_unsupported')
    expect(JSON.stringify(problem)).not.toContain('hunter2')
  })

  test('variables of settings that a command does not have are not looked at', () => {
    expect(load({ env: { ORRERY_PORT: 'many' }, only: ['store'] }).kind).toBe('loaded')
  })
})

describe('what is listened on', () => {
  const CERT = { tlsCert: 'c.pem', tlsKey: 'k.pem' }

  test('beyond this machine needs TLS, or the word that something else speaks it', () => {
    const [problem] = problemsOf({ flags: { host: '0.0.0.0' } })
    expect(problem).toMatchObject({ code: 'config.insecure_listen', path: 'host' })
    expect(problem?.message).toContain('0.0.0.0 (--host)')
    expect(() => getConfig({ flags: {}, env: { ORRERY_HOST: '::' }, file: null, cwd: '/srv' })).toThrow(
      expect.objectContaining({
        code: 'config.insecure_listen',
        remediation: expect.stringContaining('--insecure-http'),
      }),
    )
    expect(loaded({ flags: { host: '0.0.0.0', ...CERT } }).config.tls).toEqual({
      certFile: '/srv/c.pem',
      keyFile: '/srv/k.pem',
    })
    expect(loaded({ flags: { host: '0.0.0.0', insecureHttp: true } }).config.tls).toBeNull()
    for (const host of ['127.0.0.1', 'localhost', '::1', '127.8.8.8']) loaded({ flags: { host } })
  })

  test('needs a certificate and a key together', () => {
    expect(problemsOf({ flags: { tlsCert: 'c.pem' } })).toMatchObject([{ code: 'config.invalid', path: 'tlsKey' }])
    expect(problemsOf({ env: { ORRERY_TLS_KEY: 'k.pem' } })).toMatchObject([
      { code: 'config.invalid', path: 'tlsCert' },
    ])
  })

  test('knows proxies by their addresses and pages by their origins', () => {
    const { config } = loaded({
      flags: { trustedProxies: ['10.0.0.0/8', '::1'] },
      env: { ORRERY_CORS_ORIGINS: 'https://a.example, http://b.example:8080' },
    })
    expect(config).toMatchObject({
      trustedProxies: ['10.0.0.0/8', '::1'],
      corsOrigins: ['https://a.example', 'http://b.example:8080'],
    })
    expect(
      problemsOf({ flags: { trustedProxies: ['proxy.example'], corsOrigins: ['https://a.example/x'] } }),
    ).toMatchObject([
      { code: 'config.value_unsupported', path: '--trusted-proxy' },
      { code: 'config.value_unsupported', path: '--cors-origin' },
    ])
    expect(problemsOf({ flags: { corsOrigins: ['*'] } })).toMatchObject([{ code: 'config.value_unsupported' }])
  })
})
