/** What every provider takes as the name of a tool. */
const PLAIN = /^[A-Za-z0-9_-]{1,64}$/
const LENGTH_MAX = 64

/** Names of tools as providers take them, and back. Two tools never share one. */
export class ToolNames {
  readonly #sent = new Map<string, string>()
  readonly #ours = new Map<string, string>()

  constructor(names: Iterable<string>) {
    const wanted = [...new Set(names)]
    // Names that are plain keep themselves, whatever the others become.
    for (const name of wanted) if (PLAIN.test(name)) this.#take(name, name)
    for (const name of wanted) if (!PLAIN.test(name)) this.#take(name, this.#freeFor(name))
  }

  sent(name: string): string {
    return this.#sent.get(name) ?? name
  }

  /** A name that the model made up stays as it is. */
  ours(sent: string): string {
    return this.#ours.get(sent) ?? sent
  }

  #take(name: string, sent: string): void {
    this.#sent.set(name, sent)
    this.#ours.set(sent, name)
  }

  #freeFor(name: string): string {
    const base = name.replaceAll(/[^A-Za-z0-9_-]/g, '_').slice(0, LENGTH_MAX)
    for (let n = 1; ; n++) {
      const tail = n === 1 ? '' : `_${n}`
      const candidate = base.slice(0, LENGTH_MAX - tail.length) + tail
      if (candidate !== '' && !this.#ours.has(candidate)) return candidate
    }
  }
}
