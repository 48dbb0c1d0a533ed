import type { Connection, QueryResultRow, Submittable } from 'pg'

interface Field {
  name: string
  parse: (text: string) => unknown
}

/** Statements that a connection has prepared, with the columns that they give. */
const prepared = new WeakMap<Connection, Map<string, Field[]>>()
const NO_FIELDS: Field[] = []

export type TypeParsers = (oid: number) => (text: string) => unknown

type Done = (error: unknown, query: PreparedQuery) => void

/**
 * A named statement that is parsed and described once a connection; from then on a call is bind, execute and sync. What `pg` does by
 * itself describes the columns anew with every call, which costs a short statement a tenth on both sides. A name always means the
 * same text. PostgreSQL documentation, "Extended Query".
 */
export class PreparedQuery implements Submittable {
  readonly name: string
  readonly text: string
  readonly rows: QueryResultRow[] = []
  /** Set by the client or pool that takes the query. */
  callback: Done | undefined
  readonly #values: (string | null)[]
  readonly #parsers: TypeParsers
  #connection: Connection | null = null
  #fields: Field[] | undefined

  constructor(name: string, text: string, values: readonly unknown[], parsers: TypeParsers) {
    this.name = name
    this.text = text
    this.#values = values.map(textOf)
    this.#parsers = parsers
  }

  submit(connection: Connection): void {
    const { name, text } = this
    this.#connection = connection
    this.#fields = prepared.get(connection)?.get(name)
    connection.stream.cork() // one packet
    try {
      if (!this.#fields) {
        // A former call may have prepared it and then failed; closing what does not exist is no error.
        connection.close({ type: 'S', name }, true)
        connection.parse({ name, text, types: [] }, true)
      }
      connection.bind({ portal: '', statement: name, values: this.#values }, true)
      if (!this.#fields) connection.describe({ type: 'P', name: '' }, true)
      connection.execute({ portal: '' }, true)
      connection.sync()
    } finally {
      connection.stream.uncork()
    }
  }

  handleRowDescription({ fields }: { fields: { name: string; dataTypeID: number }[] }): void {
    this.#fields = fields.map((f) => ({ name: f.name, parse: this.#parsers(f.dataTypeID) }))
  }

  handleDataRow(message: { fields: (string | null)[] }): void {
    const row: QueryResultRow = {}
    const fields = this.#fields ?? NO_FIELDS
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i]
      const text = message.fields[i]
      if (field) row[field.name] = text === null || text === undefined ? null : field.parse(text)
    }
    this.rows.push(row)
  }

  handleCommandComplete(): void {
    const connection = this.#connection
    if (!connection) return
    let known = prepared.get(connection)
    if (!known) prepared.set(connection, (known = new Map()))
    known.set(this.name, this.#fields ?? NO_FIELDS)
  }

  handleEmptyQuery(): void {
    this.handleCommandComplete()
  }

  handleError(error: unknown): void {
    this.callback?.(error, this)
  }

  handleReadyForQuery(): void {
    this.callback?.(null, this)
  }
}

/** Runs a query on a client or a pool. */
export function submitTo(
  target: { query(query: PreparedQuery, done: Done): unknown },
  query: PreparedQuery,
): Promise<QueryResultRow[]> {
  return new Promise((resolve, reject) => {
    target.query(query, (error) => {
      if (error) reject(error as Error)
      else resolve(query.rows)
    })
  })
}

/** A parameter in PostgreSQL's text format. */
export function textOf(value: unknown): string | null {
  if (value === null || value === undefined) return null
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return String(value)
  if (value instanceof Date) return value.toISOString()
  if (Array.isArray(value)) return arrayText(value)
  throw new TypeError(`a parameter of type ${typeof value} cannot be sent: objects are passed as JSON text`)
}

/** What has to be escaped in a quoted element of an array. PostgreSQL documentation, "Array Input and Output Syntax". */
const SPECIAL = /["\\]/
const SPECIALS = /["\\]/g

function arrayText(values: readonly unknown[]): string {
  let out = '{'
  for (let i = 0; i < values.length; i++) {
    const value = values[i]
    if (i > 0) out += ','
    if (typeof value === 'string') out += `"${SPECIAL.test(value) ? value.replace(SPECIALS, '\\$&') : value}"`
    else out += textOf(value) ?? 'NULL'
  }
  return `${out}}`
}
