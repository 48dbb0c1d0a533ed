import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'

/** Where a value belongs; a sealed value opens at its own place alone. */
export interface SecretPlace {
  namespace: string
  secret: string
  key: string
}

/** A value as it is stored. Everything but the key's id is base64. */
export interface Sealed {
  keyId: string
  nonce: string
  ciphertext: string
  tag: string
}

const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
/** 96 bits, as GCM wants them. By chance, so that servers need not agree; safe for four thousand million values of one key. */
const NONCE_BYTES = 12

/** One key of 256 bits. Its id is part of its hash: it names the key and tells nothing of it. */
export class SealingKey {
  readonly id: string
  readonly #bytes: Buffer

  private constructor(bytes: Buffer) {
    this.#bytes = bytes
    this.id = createHash('sha256').update('orrery sealing key\0').update(bytes).digest('hex').slice(0, 12)
  }

  static generate(): SealingKey {
    return new SealingKey(randomBytes(KEY_BYTES))
  }

  /** Null when the text is not 32 bytes in base64. */
  static parse(text: string): SealingKey | null {
    if (!/^[A-Za-z0-9+/_-]{43}=?$/.test(text)) return null
    const bytes = Buffer.from(text, 'base64')
    return bytes.length === KEY_BYTES ? new SealingKey(bytes) : null
  }

  /** The key itself, for the file that keeps it. */
  reveal(): string {
    return this.#bytes.toString('base64')
  }

  toJSON(): string {
    return `[key ${this.id}]`
  }

  seal(value: string, place: SecretPlace): Sealed {
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv(CIPHER, this.#bytes, nonce).setAAD(boundTo(place))
    const ciphertext = Buffer.concat([cipher.update(value, 'utf8'), cipher.final()])
    return {
      keyId: this.id,
      nonce: nonce.toString('base64'),
      ciphertext: ciphertext.toString('base64'),
      tag: cipher.getAuthTag().toString('base64'),
    }
  }

  /** Null when it was sealed by another key or for another place, or was changed since. */
  open(sealed: Sealed, place: SecretPlace): string | null {
    try {
      const decipher = createDecipheriv(CIPHER, this.#bytes, Buffer.from(sealed.nonce, 'base64'), { authTagLength: 16 })
      decipher.setAAD(boundTo(place)).setAuthTag(Buffer.from(sealed.tag, 'base64'))
      return Buffer.concat([decipher.update(Buffer.from(sealed.ciphertext, 'base64')), decipher.final()]).toString()
    } catch {
      return null
    }
  }
}

/** No name of a secret or key has a slash, so different places give different bytes. */
const boundTo = ({ namespace, secret, key }: SecretPlace): Buffer => Buffer.from(`${namespace}/${secret}/${key}`)
