import { beforeEach, describe, expect, test } from 'vitest'
import { Failure } from '../domain/failure.ts'
import type { NodeSpec } from '../domain/testing/definitions.ts'
import { KeyRing } from '../store/secrets/key-ring.ts'
import { SealingKey } from '../store/secrets/seal.ts'
import type { RunningEngine } from './create-engine.ts'
import { NO_SOURCES, type SecretSources } from './secret-sources.ts'
import type { SecretDeps } from './secrets.ts'
import { ADMIN, type EngineRig, useRig } from './testing/rig.ts'

const value = 'ghp_hunter2-correct-horse'
const at = { namespace: 'default', secret: 'github' }
const asks: NodeSpec[] = [{ name: 'a', secrets: { gh: { secret: 'github', key: 'token' } } }]

let rig: EngineRig
let engine: RunningEngine
let keys: string
let variables: Record<string, string>
let files: Record<string, string>
let remembered: string[]
useRig((opened) => {
  rig = opened
})
beforeEach(() => {
  keys = SealingKey.generate().reveal()
  variables = {}
  files = {}
  remembered = []
  engine = rig.engine({ secrets: secretsOf() })
})

/** Secrets of a server whose keys, variables and files the test sets. */
function secretsOf(): SecretDeps {
  const sources: SecretSources = {
    ...NO_SOURCES,
    readVariable: (name) => variables[name],
    dir: '/run/secrets',
    readFile: (path) => {
      const found = files[path.join('/')]
      return Promise.resolve(found === undefined ? { kind: 'absent' } : { kind: 'found', value: found })
    },
    listFiles: (path) =>
      Promise.resolve(
        Object.keys(files).flatMap((file) => {
          const prefix = `${path.join('/')}/`
          return file.startsWith(prefix) && !file.slice(prefix.length).includes('/') ? [file.slice(prefix.length)] : []
        }),
      ),
  }
  const ring = new KeyRing({ name: 'keys.txt', read: () => Promise.resolve(keys), prepend: null })
  return { ring, sources, remember: (one) => void remembered.push(one) }
}

const put = (values: Record<string, string>, options: { replace?: boolean; namespace?: string; name?: string } = {}) =>
  engine.putSecret(
    ADMIN,
    { namespace: options.namespace ?? 'default', secret: options.name ?? 'github' },
    { values, replace: options.replace ?? false },
  )

async function failureOf(work: Promise<unknown>): Promise<Failure> {
  const error: unknown = await work.then(
    () => null,
    (e: unknown) => e,
  )
  if (!(error instanceof Failure)) throw new Error(`no failure, but ${String(error)}`)
  return error
}

/** Every row of every table as text. */
async function wholeStore(): Promise<string> {
  const tables = await rig.store.db.query<{ name: string }>(
    `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')`,
  )
  let text = ''
  for (const { name } of tables) text += JSON.stringify(await rig.store.db.query(`select * from "${name}"`))
  return text
}

async function assignedSecrets(specs = asks): Promise<Record<string, string> | undefined> {
  const { a } = await rig.startHeld(engine, specs)
  return a.secrets
}

/** The failure of a step that no worker ever saw. */
async function failedStep(specs = asks, namespace = 'default') {
  const worker = await rig.worker(engine)
  const runId = await rig.start(engine, await rig.put(engine, specs, { namespace }))
  expect((await worker.poll()).assignments).toEqual([])
  const run = await engine.getRun(ADMIN, runId)
  const [step] = run.stepList
  if (!step?.failure) throw new Error(`no failure in ${JSON.stringify(run)}`)
  return { run, step, failure: step.failure }
}

describe('a stored secret', () => {
  test('is answered by its names, never by its value', async () => {
    expect(await put({ token: value, user: 'ann-the-admin' })).toMatchObject({
      name: 'github',
      keys: ['token', 'user'],
    })
    const answers = [await engine.listSecrets(ADMIN, { namespace: 'default', cursor: null, limit: 10 })]
    const shown = await engine.getSecret(ADMIN, at, { asked: [] })
    expect(answers[0]?.items).toMatchObject([{ name: 'github', keys: ['token', 'user'] }])
    expect(JSON.stringify([answers, shown])).not.toMatch(/hunter2|ann-the-admin/)
  })

  test('is nowhere in the store but sealed', async () => {
    await put({ token: value })
    const text = await wholeStore()
    expect(text).toContain('ciphertext')
    for (const form of [value, Buffer.from(value).toString('base64'), Buffer.from(value).toString('hex')])
      expect(text).not.toContain(form)
  })

  test('keeps the keys that are not named, unless it is replaced', async () => {
    await put({ token: value, user: 'ann-the-admin' })
    expect((await put({ token: 'another-value' })).keys).toEqual(['token', 'user'])
    expect((await put({ other: 'another-value' }, { replace: true })).keys).toEqual(['other'])
  })

  test('is listed page by page', async () => {
    for (const name of ['a', 'b', 'c']) await put({ k: value }, { name })
    const first = await engine.listSecrets(ADMIN, { namespace: 'default', cursor: null, limit: 2 })
    expect([first.items.map((s) => s.name), first.next]).toEqual([['a', 'b'], 'b'])
    const second = await engine.listSecrets(ADMIN, { namespace: 'default', cursor: first.next, limit: 2 })
    expect([second.items.map((s) => s.name), second.next]).toEqual([['c'], null])
  })

  test('is deleted by key or as a whole; twice is secret.not_found', async () => {
    await put({ token: value, user: 'ann-the-admin' })
    expect(await engine.deleteSecret(ADMIN, at, { keys: ['user'] })).toEqual({ deleted: ['user'] })
    expect(await failureOf(engine.deleteSecret(ADMIN, at, { keys: ['user'] }))).toMatchObject({
      code: 'secret.key_not_found',
      evidence: { keys: ['token'] },
    })
    expect(await engine.deleteSecret(ADMIN, at, { keys: null })).toEqual({ deleted: ['token'] })
    expect(await failureOf(engine.deleteSecret(ADMIN, at, { keys: null }))).toMatchObject({ code: 'secret.not_found' })
  })

  test('of a namespace that the caller may not see looks absent', async () => {
    await put({ token: value }, { namespace: 'staging' })
    const stranger = { ...ADMIN, namespaces: ['default'] }
    const there = { namespace: 'staging', secret: 'github' }
    expect(await failureOf(engine.getSecret(stranger, there, { asked: ['token'] }))).toMatchObject({
      code: 'secret.not_found',
      evidence: {},
    })
    expect(await failureOf(engine.deleteSecret(stranger, there, { keys: null }))).toMatchObject({
      code: 'secret.not_found',
    })
    expect((await engine.listSecrets(stranger, { namespace: 'staging', cursor: null, limit: 9 })).items).toEqual([])
    expect(await failureOf(engine.putSecret(stranger, there, { values: { token: 'x' }, replace: true }))).toMatchObject(
      { code: 'client.forbidden' },
    )
    expect((await engine.getSecret(ADMIN, there, { asked: [] })).keys).toHaveLength(1)
  })

  test('has no more keys than the limit', async () => {
    await put(Object.fromEntries(Array.from({ length: 99 }, (_, i) => [`k${i}`, value])))
    expect(await failureOf(put({ x: value, y: value }))).toMatchObject({ code: 'request.too_large' })
  })

  test('cannot be kept by a server without a key, which says how to make one', async () => {
    engine = rig.engine()
    const failure = await failureOf(put({ token: value }))
    expect(failure).toMatchObject({ code: 'secrets.key_missing', message: 'storing secret default/github' })
    expect(failure.remediation).toContain('orrery secret generate-key')
  })
})

describe('a step that asks for a secret', () => {
  test('is given it with its assignment, and nothing else holds it', async () => {
    await put({ token: value })
    expect(await assignedSecrets()).toEqual({ gh: value })
    expect(await wholeStore()).not.toContain(value)
    expect(remembered).toContain(value)
  })

  test('gets what is set by then at its next attempt', async () => {
    await put({ token: value })
    const { worker, runId, a } = await rig.startHeld(engine, [
      { ...asks[0], name: 'a', retry: { max: 1, initialMs: 0, maxMs: 0, factor: 1, jitter: 0, on: null } },
    ])
    await put({ token: 'the-new-value' })
    const failure = new Failure('step.function_threw', 'testing').toRecord()
    await worker.report(a, { kind: 'failed', failure })
    await rig.advance(10)
    await engine.tick()
    expect((await worker.pollFirst()).secrets, runId).toEqual({ gh: 'the-new-value' })
  })

  test('finds it in the store, then in a variable, then in a file', async () => {
    files['default/github/token'] = 'of-the-file'
    expect(await assignedSecrets()).toEqual({ gh: 'of-the-file' })
    variables['ORRERY_SECRET_DEFAULT_GITHUB_TOKEN'] = 'of-the-variable'
    expect(await assignedSecrets()).toEqual({ gh: 'of-the-variable' })
    await put({ token: 'of-the-store' })
    expect(await assignedSecrets()).toEqual({ gh: 'of-the-store' })
  })

  test('passes over a variable that is empty', async () => {
    variables['ORRERY_SECRET_DEFAULT_GITHUB_TOKEN'] = ''
    variables['ORRERY_SECRET_GITHUB_TOKEN'] = 'of-the-short-one'
    expect(await assignedSecrets()).toEqual({ gh: 'of-the-short-one' })
  })

  test('that is nowhere fails before any worker has it, with every place; it is not retried', async () => {
    variables['ORRERY_SECRET_DEFAULT_GITHUB_TOKEN'] = ''
    await put({ token: value }, { name: 'githup' })
    const retry = { max: 5, initialMs: 0, maxMs: 0, factor: 1, jitter: 0, on: null }
    const { run, step, failure } = await failedStep([
      { name: 'a', secrets: { gh: { secret: 'github', key: 'token' } }, retry },
    ])
    expect(run.state).toBe('failed')
    expect(step.fence).toBe(1)
    expect(failure).toMatchObject({
      code: 'secret.not_found',
      message: `resolving secret github, key token, for secrets.gh of step a of ${run.id}`,
      retryable: false,
      evidence: {
        step: 'a',
        secret: 'github',
        key: 'token',
        nearest: 'githup',
        tried: [
          'store default/github/token: no such secret',
          'variable ORRERY_SECRET_DEFAULT_GITHUB_TOKEN: set, but empty',
          'variable ORRERY_SECRET_GITHUB_TOKEN: not set',
          'file /run/secrets/default/github/token: no such file',
          'file /run/secrets/github/token: no such file',
        ],
      },
    })
  })

  test('that has other keys is secret.key_not_found with those', async () => {
    await put({ tokn: value })
    files['github/user'] = 'ann'
    expect((await failedStep()).failure).toMatchObject({
      code: 'secret.key_not_found',
      evidence: { keys: ['tokn', 'user'], nearest: 'tokn' },
    })
  })

  test('tells where else there is one of its name, to those who may see it', async () => {
    await put({ token: value }, { namespace: 'staging' })
    const { run } = await failedStep()
    expect((await engine.getRun(ADMIN, run.id)).stepList[0]?.failure?.evidence).toMatchObject({
      elsewhere: ['staging'],
    })
    const stranger = { ...ADMIN, namespaces: ['default'] }
    expect((await engine.getRun(stranger, run.id)).stepList[0]?.failure?.evidence).not.toHaveProperty('elsewhere')
  })

  test('does not fall back on another place when the stored value cannot be read', async () => {
    await put({ token: value })
    variables['ORRERY_SECRET_DEFAULT_GITHUB_TOKEN'] = 'another-one'
    keys = SealingKey.generate().reveal()
    engine = rig.engine({ secrets: secretsOf() })
    expect((await failedStep()).failure).toMatchObject({
      code: 'secrets.key_wrong',
      evidence: { step: 'a', sealedBy: expect.stringMatching(/^[0-9a-f]{12}$/) },
    })
    engine = rig.engine()
    expect((await failedStep()).failure).toMatchObject({ code: 'secrets.key_missing' })
  })

  test('and runs by hand once it is there', async () => {
    const { run } = await failedStep()
    await put({ token: value })
    await engine.retryRun(ADMIN, run.id)
    const worker = await rig.worker(engine)
    expect((await worker.pollFirst()).secrets).toEqual({ gh: value })
  })
})

test('a step that asks for none costs no question and carries none', async () => {
  const asked: string[] = []
  const { db } = rig
  const query: typeof db.query = (sql, params, options) => {
    asked.push(sql)
    return db.query(sql, params, options)
  }
  engine = rig.engine({ secrets: secretsOf(), db: { ...db, query } })
  const { a } = await rig.startHeld(engine)
  expect(a).not.toHaveProperty('secrets')
  expect(asked.filter((sql) => sql.includes('secret_value'))).toEqual([])
})

describe('rotation', () => {
  const rotate = async (by = engine) => {
    let calls = 0
    let resealed = 0
    for (;;) {
      const answer = await by.rotateSecrets(ADMIN, { newKey: false })
      calls++
      resealed += answer.resealed
      if (answer.remaining === 0) return { ...answer, calls, resealed }
    }
  }
  const addKey = () => {
    const key = SealingKey.generate()
    keys = `${key.reveal()}\n${keys}`
    return key
  }
  const many = async (secrets: number) => {
    for (let i = 0; i < secrets; i++)
      await put(Object.fromEntries(Array.from({ length: 100 }, (_, k) => [`k${k}`, `${value}-${i}-${k}`])), {
        name: `s${i}`,
      })
  }

  test('encrypts everything anew in batches, and steps still get their values', async () => {
    await many(5)
    await put({ token: value })
    const key = addKey()
    expect(await rotate()).toMatchObject({ activeKey: key.id, resealed: 501, calls: 3, unreadable: [] })
    expect(await rotate()).toMatchObject({ resealed: 0 })
    keys = key.reveal()
    engine = rig.engine({ secrets: secretsOf() })
    expect(await assignedSecrets()).toEqual({ gh: value })
  })

  test('goes on where it was cut off', async () => {
    await many(3)
    addKey()
    expect(await engine.rotateSecrets(ADMIN, { newKey: false })).toMatchObject({ resealed: 200, remaining: 100 })
    engine = rig.engine({ secrets: secretsOf() })
    expect(await rotate()).toMatchObject({ resealed: 100 })
  })

  test('names the values that no key opens, and does the others', async () => {
    await put({ token: value })
    const lost = SealingKey.parse(keys)?.id
    keys = SealingKey.generate().reveal()
    engine = rig.engine({ secrets: secretsOf() })
    await put({ token: value }, { name: 'other' })
    addKey()
    expect(await rotate()).toMatchObject({ resealed: 1, unreadable: [{ keyId: lost, values: 1 }] })
  })

  test('is for those who see every namespace', async () => {
    const stranger = { ...ADMIN, namespaces: ['default'] }
    expect(await failureOf(engine.rotateSecrets(stranger, { newKey: false }))).toMatchObject({
      code: 'client.forbidden',
    })
  })
})

describe('the audit log', () => {
  test('tells of every change and every use of a secret, and never its value', async () => {
    const run = async () => {
      const worker = await rig.worker(engine)
      await rig.start(engine, await rig.put(engine, asks))
      return worker.pollFirst()
    }
    await put({ token: value })
    await rig.advance(1)
    const assignment = await run()
    expect(assignment.secrets).toEqual({ gh: value })
    await rig.advance(1)
    await engine.deleteSecret(ADMIN, at, { keys: null })
    const query = {
      actor: null,
      action: null,
      object: 'github',
      outcome: null,
      namespace: null,
      since: null,
      cursor: null,
    }
    const { items } = await engine.access.listAudit(ADMIN, { ...query, limit: 10 })
    expect(items.map((e) => [e.action, e.details])).toEqual([
      ['secrets.delete', { keys: ['token'] }],
      ['secrets.use', { key: 'token', as: 'gh', step: assignment.step, worker: 'w' }],
      ['secrets.set', { keys: ['token'], replace: false }],
    ])
    expect(items[1]?.actor).toMatchObject({ id: 'tok_worker', role: 'worker' })
    expect(JSON.stringify(items)).not.toContain(value)
  })
})
