import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { Secret, silentLog } from '../../src/base/index.ts'
import { createClient, httpTransport } from '../../src/client/index.ts'
import { type Db, openPostgres, SealingKey } from '../../src/store/index.ts'
import { runOrrery } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { startProviders } from '../../src/agents/testing/gateway-rig.ts'
import { openModels } from './models.ts'
import { endedRun, makeDir, startUp, type Up, workflowOf, writeBelow } from './rig.ts'

const SECRET = 'hunter2/correct+horse=battery&staple'
const OTHER = 'another-value-of-another-step'
/** What must be nowhere: the value as tools print it. */
const FORMS = [
  SECRET,
  encodeURIComponent(SECRET),
  Buffer.from(SECRET).toString('hex'),
  ...[0, 1, 2].map((n) =>
    Buffer.from('x'.repeat(n) + SECRET)
      .toString('base64')
      .slice(4, 40),
  ),
]

const FUNCTIONS = `
export function leak(_, { secrets, log }) {
  const value = secrets.gh.reveal()
  log('function says ' + value + ' and ' + secrets.gh)
  return { value, encoded: Buffer.from('x' + value).toString('base64'), as: secrets.gh }
}
export function fail(_, { secrets }) {
  throw new Error('refused for ' + secrets.gh.reveal(), { cause: encodeURIComponent(secrets.gh.reveal()) })
}
`
const token = { secret: 'github', key: 'token' }

interface Scene {
  up: Up
  db: Db
  dir: string
  orrery(...args: string[]): ReturnType<typeof runOrrery>
}

async function openScene(dsn: string, env: Record<string, string> = {}): Promise<Scene> {
  const dir = makeDir()
  const keyFile = writeBelow(dir, 'keys', `${SealingKey.generate().reveal()}\n`)
  const functions = writeBelow(dir, 'leaks.mjs', FUNCTIONS)
  const args = ['--store', 'postgres', '--postgres-dsn', dsn, '--secrets-key-file', keyFile, '--log-level', 'debug']
  const files = ['--secrets-dir', join(dir, 'files'), '--module', `leaks=${functions}`]
  const up = await startUp([...args, ...files], { env })
  const db = openPostgres({ dsn, connections: 2, log: silentLog })
  onTestFinished(() => db.close())
  const asked = { ORRERY_SERVER: up.address, ORRERY_TOKEN: up.token }
  return { up, db, dir, orrery: (...more) => runOrrery(more, { env: asked }) }
}

/** Every row of every table as text. */
async function wholeStore(db: Db): Promise<string> {
  const tables = await db.query<{ name: string }>(
    `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')`,
  )
  let text = ''
  for (const { name } of tables) {
    const rows = await db.query<{ row: string }>(`select t::text as row from "${name}" t`)
    text += rows.map(({ row }) => `${name} ${row}\n`).join('')
  }
  return text
}

describeWithPostgres('AGT-1: secrets of steps', (postgres) => {
  test('what a step is given is told by nothing, however the step prints it', async () => {
    const { up, db, orrery } = await openScene(await postgres.createStore())
    const set = await runOrrery(['secret', 'set', 'github', '--stdin', 'token'], {
      env: { ORRERY_SERVER: up.address, ORRERY_TOKEN: up.token },
      stdin: `${SECRET}\n`,
    })
    expect(set, set.stderr).toMatchObject({ code: 0 })
    const script = [
      'echo "plain $TOKEN"',
      'printf %s "$TOKEN" | base64 -w0; echo',
      'printf %s "x$TOKEN" | base64 -w0 >&2; echo >&2',
      'node -e "console.log(encodeURIComponent(process.env.TOKEN))"',
      'printf %s "$TOKEN" | od -An -tx1 | tr -d " \\n"; echo',
    ].join('\n')
    const steps = [
      {
        name: 'command',
        command: `${script}\nprintf '{"got":"%s"}' "$TOKEN" > "$ORRERY_OUTPUT"`,
        env: { TOKEN: token },
      },
      { name: 'function', function: 'leaks.leak', secrets: { gh: token } },
      { name: 'next', needs: ['command'], command: ['echo', '${{ steps.command.output.got }}'] },
      { name: 'broken', command: `${script}\nexit 3`, env: { TOKEN: token } },
      { name: 'thrown', function: 'leaks.fail', secrets: { gh: token } },
    ]
    const { id } = await up.client.createRun({ workflow: workflowOf(steps, { modules: { leaks: './leaks.mjs' } }) })
    const run = await endedRun(up.client, id)
    expect(Object.fromEntries(run.stepList.map((s) => [s.name, s.failure?.code ?? s.output]))).toEqual({
      command: { got: '[secret]' },
      function: { value: '[secret]', encoded: expect.stringContaining('[secret]'), as: '[secret]' },
      next: { exitCode: 0 },
      broken: 'step.exit_nonzero',
      thrown: 'step.function_threw',
    })
    let log = ''
    for await (const line of up.client.followLogs(id)) log += line.text
    expect(log.match(/plain \[secret\]/g)).toHaveLength(2)
    expect(log).toContain('function says [secret] and [secret]')
    let events = ''
    for await (const event of up.client.followEvents(id)) events += JSON.stringify(event)
    const shown = await orrery('runs', 'show', id)
    const secret = await orrery('secret', 'show', 'github', '--json')
    const store = await wholeStore(db)
    expect(store).toContain('secret_value')
    const told = { log, events, run: JSON.stringify(run), shown: shown.stdout, secret: secret.stdout, store }
    for (const [where, text] of Object.entries({ ...told, output: up.process.output() }))
      for (const form of FORMS) expect(text.includes(form), `${form} is in ${where}`).toBe(false)
  })

  test('a command sees what it asked for, and nothing of the server or of other steps', async () => {
    const { up } = await openScene(await postgres.createStore(), {
      ORRERY_SECRET_GITHUB_TOKEN: SECRET,
      ORRERY_SECRET_DB_PASSWORD: OTHER,
    })
    const dump = `node -e 'console.log(JSON.stringify(Object.keys(process.env).sort()))'`
    const steps = [
      { name: 'asks', command: dump, env: { TOKEN: token, PLAIN: 'x' } },
      { name: 'other', command: dump, env: { PASSWORD: { secret: 'db', key: 'password' } } },
    ]
    const { id } = await up.client.createRun({ workflow: workflowOf(steps) })
    expect((await endedRun(up.client, id)).state).toBe('succeeded')
    const names: Record<string, string[]> = {}
    for await (const line of up.client.followLogs(id)) names[line.step] = JSON.parse(line.text)
    const ours = ['ORRERY_ATTEMPT', 'ORRERY_ATTEMPT_DIR', 'ORRERY_OUTPUT', 'ORRERY_RUN_ID', 'ORRERY_STEP']
    expect(names['asks']?.filter((name) => name.startsWith('ORRERY_'))).toEqual(ours)
    expect(names['other']?.filter((name) => name.startsWith('ORRERY_'))).toEqual(ours)
    expect(names['asks']).toEqual(expect.arrayContaining(['PLAIN', 'TOKEN']))
    expect(names['asks']).not.toContain('PASSWORD')
    expect(names['other']).not.toContain('TOKEN')
  })

  test('a secret that is nowhere is named with its step and every place; set, the run goes on', async () => {
    const { up, orrery, dir } = await openScene(await postgres.createStore())
    await up.client.putSecret('staging', 'github', { values: { token: OTHER } })
    await up.client.putSecret('default', 'gitlab', { values: { token: OTHER } })
    const command = 'test "${#TOKEN}" -gt 0'
    const steps = [{ name: 'push', command, env: { TOKEN: token }, retry: 3 }]
    const { id } = await up.client.createRun({ workflow: workflowOf(steps) })
    const run = await endedRun(up.client, id)
    expect(run).toMatchObject({
      state: 'failed',
      stepList: [
        {
          fence: 1,
          failure: {
            code: 'secret.not_found',
            evidence: {
              step: 'push',
              nearest: 'gitlab',
              elsewhere: ['staging'],
              tried: [
                'store default/github/token: no such secret',
                'variable ORRERY_SECRET_DEFAULT_GITHUB_TOKEN: not set',
                'variable ORRERY_SECRET_GITHUB_TOKEN: not set',
                `file ${dir}/files/default/github/token: no such file`,
                `file ${dir}/files/github/token: no such file`,
              ],
            },
          },
        },
      ],
    })
    const shown = (await orrery('runs', 'show', id)).stdout
    for (const text of [
      'secret.not_found',
      'ORRERY_SECRET_DEFAULT_GITHUB_TOKEN: not set',
      'staging',
      'orrery secret set',
    ])
      expect(shown).toContain(text)

    expect((await orrery('secret', 'set', 'github', 'tokn=x123')).code).toBe(0)
    await up.client.retryRun(id)
    expect((await endedRun(up.client, id)).stepList[0]?.failure).toMatchObject({
      code: 'secret.key_not_found',
      evidence: { keys: ['tokn'], nearest: 'tokn' },
    })

    writeBelow(dir, 'files/github/token', `${SECRET}\n`)
    await up.client.retryRun(id)
    expect(await endedRun(up.client, id)).toMatchObject({ state: 'succeeded', epoch: 3 })
  })

  test('without a key a server on PostgreSQL says how to make one, and with another key which one it lacks', async () => {
    const dsn = await postgres.createDatabase()
    const first = await openScene(dsn)
    await first.up.client.putSecret('default', 'github', { values: { token: SECRET } })
    await first.up.process.kill9()

    const store = ['--store', 'postgres', '--postgres-dsn', dsn]
    const without = await startUp(store)
    const refused = await without.client.putSecret('default', 'a', { values: { b: 'xyz1' } }).catch((e: unknown) => e)
    expect(refused).toMatchObject({ code: 'secrets.key_missing', remediation: expect.stringContaining('generate-key') })
    await without.process.kill9()

    const key = (await runOrrery(['secret', 'generate-key'])).stdout.trim()
    const other = await startUp(store, { env: { ORRERY_SECRETS_KEY: key } })
    const steps = [{ name: 'push', command: 'true', env: { TOKEN: token } }]
    const { id } = await other.client.createRun({ workflow: workflowOf(steps) })
    expect((await endedRun(other.client, id)).stepList[0]?.failure).toMatchObject({
      code: 'secrets.key_wrong',
      evidence: { keys: 'ORRERY_SECRETS_KEY', known: [SealingKey.parse(key)?.id] },
    })
    await other.process.kill9()

    // Both keys: rotated, the old one is no longer needed.
    const old = readFileSync(join(first.dir, 'keys'), 'utf8').trim()
    const both = await startUp(store, { env: { ORRERY_SECRETS_KEY: `${key},${old}` } })
    const rotated = await runOrrery(['secret', 'rotate'], {
      env: { ORRERY_SERVER: both.address, ORRERY_TOKEN: both.token },
    })
    expect(rotated).toMatchObject({ code: 0, stdout: expect.stringContaining('1 were encrypted anew') })
    await both.process.kill9()
    const last = await startUp(store, { env: { ORRERY_SECRETS_KEY: key } })
    await last.client.retryRun(id)
    expect((await endedRun(last.client, id)).state).toBe('succeeded')
  })
})

describe('AGT-1 on the embedded store', () => {
  test('a key file of its own is made, and a secret works without any set-up', async () => {
    const dataDir = join(makeDir(), 'data')
    const up = await startUp([], { dataDir })
    const client = createClient({ transport: httpTransport({ address: up.address }), token: new Secret(up.token) })
    await client.putSecret('default', 'github', { values: { token: SECRET } })
    expect(readFileSync(join(dataDir, 'secrets.key'), 'utf8')).toMatch(/^[A-Za-z0-9+/]{43}=$/m)
    const steps = [{ name: 'show', command: 'echo "it is $TOKEN"', env: { TOKEN: token } }]
    const { id } = await client.createRun({ workflow: workflowOf(steps) })
    expect((await endedRun(client, id)).state).toBe('succeeded')
    let log = ''
    for await (const line of client.followLogs(id)) log += line.text
    expect(log).toBe('it is [secret]\n')
    const renewed = await client.rotateSecrets({ newKey: true })
    expect(renewed).toMatchObject({ resealed: 1, remaining: 0, olderKeys: [expect.any(String)] })
  })
})

describe('AGT-1: keys of model endpoints', () => {
  test('one that is missing is told with every place; set, wrong, mended: each call takes it as it is then', async () => {
    const dir = makeDir()
    const { up, orrery, declare, refused, ask } = await openModels(['--secrets-dir', join(dir, 'files')])
    const server = await startProviders({ auth: { apiKeys: [SECRET] } })
    server.on({}, { content: `Your key is ${SECRET}, and all is well.` })
    const credentials = { secret: 'openai', key: 'api-key' }
    await declare('gpt', { provider: 'openai', model: 'gpt-4o', baseUrl: `${server.url}/v1`, credentials })
    await up.client.putSecret('staging', 'openai', { values: { 'api-key': OTHER } })

    const missing = await refused('gpt')
    expect(missing).toMatchObject({
      code: 'secret.not_found',
      evidence: {
        endpoint: 'gpt',
        secret: 'openai',
        key: 'api-key',
        elsewhere: ['staging'],
        tried: [
          'store default/openai/api-key: no such secret',
          'variable ORRERY_SECRET_DEFAULT_OPENAI_API_KEY: not set',
          'variable ORRERY_SECRET_OPENAI_API_KEY: not set',
          `file ${dir}/files/default/openai/api-key: no such file`,
          `file ${dir}/files/openai/api-key: no such file`,
        ],
      },
    })
    expect(server.getRequests()).toHaveLength(0)
    const shown = await orrery('models', 'test', 'gpt')
    expect(shown.code).toBe(78)
    for (const text of ['secret.not_found', 'ORRERY_SECRET_OPENAI_API_KEY: not set', 'staging', 'orrery secret set'])
      expect(shown.stderr).toContain(text)
    expect((await orrery('models', 'list')).stdout).toMatch(/gpt +openai +gpt-4o +- +missing/)
    const doctor = await orrery('doctor')
    expect(doctor.stdout).toMatch(/! models +default\/gpt +secret\.not_found/)
    expect(doctor.code).toBe(1)

    await up.client.putSecret('default', 'openai', { values: { apikey: OTHER } })
    expect(await refused('gpt')).toMatchObject({
      code: 'secret.key_not_found',
      evidence: { keys: ['apikey'], nearest: 'apikey', endpoint: 'gpt' },
    })
    await up.client.putSecret('default', 'openai', { values: { 'api-key': '  ' } })
    expect(await refused('gpt')).toMatchObject({ code: 'model.auth_missing', evidence: { why: 'its value is blank' } })

    await up.client.putSecret('default', 'openai', { values: { 'api-key': OTHER } })
    const wrong = await refused('gpt')
    expect(wrong).toMatchObject({
      code: 'model.auth_failed',
      evidence: { endpoint: 'gpt', secret: 'openai', key: 'api-key', status: 401 },
    })
    expect(JSON.stringify(wrong)).not.toContain(OTHER)

    await up.client.putSecret('default', 'openai', { values: { 'api-key': SECRET } })
    expect(await ask('gpt')).toMatchObject({ text: 'Your key is [secret], and all is well.' })
    expect((await orrery('models', 'list')).stdout).toMatch(/gpt +openai +gpt-4o +- +found/)
    const audit = (await orrery('audit', '--json')).stdout
    for (const text of ['modelendpoints.ask', 'secrets.use', '"endpoint":"gpt"']) expect(audit).toContain(text)
    for (const form of FORMS) expect(`${audit}${up.process.output()}`.includes(form), form).toBe(false)
  })

  test('is optional where the language of OpenAI is spoken by somebody else, who may want one all the same', async () => {
    const { declare, refused, ask } = await openModels()
    const open = await startProviders()
    open.on({}, { content: 'Here I am.' })
    const closed = await startProviders({ auth: { apiKeys: [SECRET] } })
    const at = (url: string) => ({ provider: 'openai-compatible', model: 'm', baseUrl: `${url}/v1` })
    await declare('open', at(open.url))
    await declare('closed', at(closed.url))
    expect(await ask('open')).toMatchObject({ text: 'Here I am.' })
    expect(await refused('closed')).toMatchObject({
      code: 'model.auth_missing',
      remediation: expect.stringContaining('endpoint closed names none'),
    })
  })
})
