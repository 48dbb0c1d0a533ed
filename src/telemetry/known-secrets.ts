import { Redactor } from '../base/redact.ts'

/** The secret values that a process has had in its hands, for its log: the last so many of them. */
export class KnownSecrets {
  readonly #max: number
  readonly #values = new Set<string>()
  #redactor: Redactor | null = null

  constructor({ max }: { max: number }) {
    this.#max = max
  }

  add(value: string): void {
    if (this.#values.has(value)) return
    this.#values.add(value)
    if (this.#values.size > this.#max) this.#values.delete(this.#values.values().next().value ?? '')
    this.#redactor = null
  }

  /** A whole line without them. */
  redact(line: string): string {
    if (this.#values.size === 0) return line
    this.#redactor ??= new Redactor(this.#values)
    return this.#redactor.text(line)
  }
}
