import { Failure } from '../../domain/failure.ts'
import { type Sealed, SealingKey, type SecretPlace } from './seal.ts'

/** Where the keys come from. */
export interface KeySource {
  /** For messages: a file or a variable. */
  readonly name: string
  /** The text of the keys, the active one first; null when there are none yet. */
  read(): Promise<string | null>
  /** Puts a new key before the others and gives the whole text; null when the keys are somebody else's to change. */
  readonly prepend: ((key: string) => Promise<string>) | null
}

/** The active key, which seals, and those that values may still be sealed by. */
interface Ring {
  active: SealingKey
  byId: ReadonlyMap<string, SealingKey>
}

/** The keys of a server. They are read when they are first needed, and again when a value asks for one that is not known. */
export class KeyRing {
  readonly #source: KeySource | null
  #ring: Ring | null = null
  #making: Promise<Ring> | null = null

  /** Null: this server was given no keys. */
  constructor(source: KeySource | null) {
    this.#source = source
  }

  /** Whether a new key can be made here, and need not come from whoever set the server up. */
  get isOwn(): boolean {
    return this.#source?.prepend != null
  }

  /** Ids, the active one first; none when there are no keys yet. */
  async ids(): Promise<string[]> {
    return [...((await this.#load())?.byId.keys() ?? [])]
  }

  /** The key that seals. One is made when there is none and this server may. */
  async active(purpose: string): Promise<SealingKey> {
    const ring = (await this.#load()) ?? (this.isOwn ? await this.#makeFirst() : null)
    if (ring) return ring.active
    throw this.#missing(purpose)
  }

  /** A new active key; values stay sealed by the old ones until they are sealed anew. */
  async renew(): Promise<string> {
    if (!this.isOwn)
      throw new Failure('request.invalid', 'making a new key for secrets', {
        evidence: { keys: this.#source?.name ?? 'none' },
        remediation:
          'The keys of this server come from whoever set it up. Make one with orrery secret generate-key, put it first in the key file (or in ORRERY_SECRETS_KEY, with the old ones behind commas) of every server, then run orrery secret rotate without --new-key.',
      })
    return (await this.#makeKey()).active.id
  }

  /** Throws `secrets.key_missing` and `secrets.key_wrong`. */
  async open(sealed: Sealed, place: SecretPlace): Promise<string> {
    const purpose = `decrypting secret ${place.namespace}/${place.secret}/${place.key}`
    let ring = await this.#load()
    if (!ring?.byId.has(sealed.keyId)) {
      this.#ring = null
      ring = await this.#load()
    }
    if (!ring) throw this.#missing(purpose)
    const key = ring.byId.get(sealed.keyId)
    const value = key?.open(sealed, place) ?? null
    if (value !== null) return value
    throw new Failure('secrets.key_wrong', purpose, {
      evidence: {
        sealedBy: sealed.keyId,
        known: [...ring.byId.keys()],
        keys: this.#source?.name ?? 'none',
        problem: key ? 'the key is there, and the stored value was changed or moved' : 'no such key is there',
      },
    })
  }

  #missing(purpose: string): Failure {
    return new Failure('secrets.key_missing', purpose, { evidence: { keys: this.#source?.name ?? 'none given' } })
  }

  /** One for all who meet an empty ring at once. */
  #makeFirst(): Promise<Ring> {
    this.#making ??= this.#makeKey().finally(() => (this.#making = null))
    return this.#making
  }

  async #makeKey(): Promise<Ring> {
    const text = await this.#source?.prepend?.(SealingKey.generate().reveal())
    return (this.#ring = parseRing(text ?? '', this.#source?.name ?? ''))
  }

  async #load(): Promise<Ring | null> {
    if (this.#ring || !this.#source) return this.#ring
    const text = await this.#source.read()
    if (text === null) return null
    return (this.#ring = parseRing(text, this.#source.name))
  }

  /** Reads the keys again at the next use. */
  reload(): void {
    this.#ring = null
  }
}

/** One key a line, or several behind commas; `#` begins a remark. Throws `config.value_unsupported`, which never shows a key. */
function parseRing(text: string, source: string): Ring {
  const entries = text
    .split('\n')
    .flatMap((line, i) =>
      line
        .replace(/#.*/, '')
        .split(',')
        .map((entry) => ({ text: entry.trim(), line: i + 1 })),
    )
    .filter((entry) => entry.text !== '')
  const keys = entries.map((entry) => {
    const key = SealingKey.parse(entry.text)
    if (key) return key
    throw new Failure('config.value_unsupported', `reading the keys for secrets from ${source}`, {
      evidence: { keys: source, line: entry.line, accepted: '32 bytes in base64' },
      remediation: 'Make a key with orrery secret generate-key. One key a line, the active one first.',
    })
  })
  const active = keys[0]
  if (!active)
    throw new Failure('config.value_unsupported', `reading the keys for secrets from ${source}: there is none in it`, {
      evidence: { keys: source },
      remediation: 'Make a key with orrery secret generate-key and put it there.',
    })
  return { active, byId: new Map(keys.map((key) => [key.id, key])) }
}
