import { describe, expect, test } from 'vitest'
import { Failure } from '../../domain/failure.ts'
import { KeyRing, type KeySource } from './key-ring.ts'
import { SealingKey } from './seal.ts'

const place = { namespace: 'default', secret: 'github', key: 'token' }
const value = 'ghp_värde-with-unicode'

describe('a sealed value', () => {
  const key = SealingKey.generate()

  test('opens by its key at its place', () => {
    expect(key.open(key.seal(value, place), place)).toBe(value)
  })

  test('shows nothing of the value, and is another each time', () => {
    const [one, two] = [key.seal(value, place), key.seal(value, place)]
    expect(one.nonce).not.toBe(two.nonce)
    expect(one.ciphertext).not.toBe(two.ciphertext)
    expect(Buffer.from(one.nonce, 'base64')).toHaveLength(12)
    expect(JSON.stringify(one)).not.toContain(Buffer.from(value).toString('base64').slice(0, 8))
  })

  test.for([
    ['namespace', { ...place, namespace: 'other' }],
    ['secret', { ...place, secret: 'other' }],
    ['key', { ...place, key: 'other' }],
  ] as const)('does not open when it was moved to another %s', ([, elsewhere]) => {
    expect(key.open(key.seal(value, place), elsewhere)).toBeNull()
  })

  test.for(['nonce', 'ciphertext', 'tag'] as const)('does not open when its %s was changed', (part) => {
    const sealed = key.seal(value, place)
    const bytes = Buffer.from(sealed[part], 'base64')
    bytes[0] = (bytes[0] ?? 0) ^ 1
    expect(key.open({ ...sealed, [part]: bytes.toString('base64') }, place)).toBeNull()
  })

  test('does not open with a tag that was cut short', () => {
    const sealed = key.seal(value, place)
    const tag = Buffer.from(sealed.tag, 'base64').subarray(0, 4).toString('base64')
    expect(key.open({ ...sealed, tag }, place)).toBeNull()
  })

  test('does not open by another key', () => {
    expect(SealingKey.generate().open(key.seal(value, place), place)).toBeNull()
  })
})

test('a key comes back from its text with its id, and shows itself in no other way', () => {
  const key = SealingKey.generate()
  expect(SealingKey.parse(key.reveal())?.id).toBe(key.id)
  expect(JSON.stringify({ key })).not.toContain(key.reveal())
  for (const text of ['', 'short', `${key.reveal()}A`, key.reveal().slice(4)]) expect(SealingKey.parse(text)).toBeNull()
})

/** Keys in a text that a test changes. */
function source(text: string | null, options: { isOwn: boolean } = { isOwn: false }) {
  const held = { text, reads: 0 }
  const prepend = (key: string) => {
    held.text = `${key}\n${held.text ?? ''}`
    return Promise.resolve(held.text)
  }
  const keys: KeySource = {
    name: 'keys.txt',
    read: () => {
      held.reads++
      return Promise.resolve(held.text)
    },
    prepend: options.isOwn ? prepend : null,
  }
  return { held, ring: new KeyRing(keys) }
}

const failureOf = async (work: Promise<unknown>): Promise<Failure> => {
  const error: unknown = await work.then(
    () => null,
    (e: unknown) => e,
  )
  if (!(error instanceof Failure)) throw new Error(`no failure, but ${String(error)}`)
  return error
}

describe('a ring of keys', () => {
  const [first, second] = [SealingKey.generate(), SealingKey.generate()]

  test('seals by its first key and opens what older ones sealed', async () => {
    const { ring } = source(`# the new one\n${second.reveal()} # made today\n\n${first.reveal()}\n`)
    expect((await ring.active('test')).id).toBe(second.id)
    expect(await ring.open(first.seal(value, place), place)).toBe(value)
    expect(await ring.ids()).toEqual([second.id, first.id])
  })

  test('takes several keys of a variable, behind commas', async () => {
    expect(await source(`${second.reveal()},${first.reveal()}`).ring.ids()).toEqual([second.id, first.id])
  })

  test('is read again when a value was sealed by a key that came later', async () => {
    const { ring, held } = source(first.reveal())
    await ring.active('test')
    held.text = `${second.reveal()}\n${first.reveal()}`
    expect(await ring.open(second.seal(value, place), place)).toBe(value)
  })

  test('without a key that a value needs says by which it is sealed, and which there are', async () => {
    const failure = await failureOf(source(first.reveal()).ring.open(second.seal(value, place), place))
    expect(failure).toMatchObject({
      code: 'secrets.key_wrong',
      message: 'decrypting secret default/github/token',
      evidence: { sealedBy: second.id, known: [first.id], keys: 'keys.txt' },
    })
  })

  test('tells a value that was changed from a key that is missing', async () => {
    const sealed = { ...first.seal(value, place), keyId: second.id }
    const both = `${first.reveal()}\n${second.reveal()}`
    const failure = await failureOf(source(both).ring.open(sealed, place))
    expect(failure).toMatchObject({
      code: 'secrets.key_wrong',
      evidence: { problem: expect.stringContaining('changed') },
    })
  })

  test('that nobody gave is secrets.key_missing when it is first needed, with how to make one', async () => {
    const ring = new KeyRing(null)
    const failure = await failureOf(ring.active('storing secret default/github'))
    expect(failure).toMatchObject({ code: 'secrets.key_missing', message: 'storing secret default/github' })
    expect(failure.remediation).toContain('orrery secret generate-key')
    expect(await failureOf(ring.open(first.seal(value, place), place))).toMatchObject({ code: 'secrets.key_missing' })
  })

  test('of the server makes its first key once, however many need it at once', async () => {
    const { ring, held } = source(null, { isOwn: true })
    const keys = await Promise.all([ring.active('a'), ring.active('b'), ring.active('c')])
    expect(new Set(keys.map((key) => key.id)).size).toBe(1)
    expect(held.text?.trim().split('\n')).toHaveLength(1)
  })

  test('of somebody else is not renewed here; the remedy says how', async () => {
    const failure = await failureOf(source(first.reveal()).ring.renew())
    expect(failure).toMatchObject({ code: 'request.invalid', remediation: expect.stringContaining('generate-key') })
  })

  test.for<[what: string, text: string, line: number]>([
    ['no base64', `${first.reveal()}\nnot-a-key`, 2],
    ['a key of another length', Buffer.alloc(16).toString('base64'), 1],
  ])('with %s names the line and not the key', async ([, text, line]) => {
    const failure = await failureOf(source(text).ring.active('test'))
    expect(failure).toMatchObject({ code: 'config.value_unsupported', evidence: { keys: 'keys.txt', line } })
    expect(JSON.stringify(failure.toRecord())).not.toContain('not-a-key')
  })
})
