import type { JsonObject } from '../base/json.ts'

/** How requests reach a server: over a socket, or handed to its handler in the same process. */
export interface Transport {
  /** Where it leads, for messages. */
  readonly address: string
  /** Which flag, variable or file gave the address; null when nobody said. */
  readonly addressFrom: string | null
  /** What else is known of the server there; part of the evidence when it cannot be reached. */
  readonly known?: JsonObject
  /** Sends and reads the whole answer. */
  send(request: TransportRequest): Promise<TransportResponse>
  /** Sends and gives the answer's text as it comes. A cut connection is `client.server_unreachable` in the middle. */
  open(request: TransportRequest): Promise<TransportStream>
  /** Frees kept connections; requests under way go on. */
  close(): void
}

export interface TransportRequest {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** With its query. */
  path: string
  /** Names in lower case. */
  headers: Record<string, string>
  body: string | null
  /** Twice is safe: sent once more when a kept connection turns out to be closed. */
  repeatable: boolean
  /** How `open` gives the body's bytes as text: `latin1` is one character a byte. `utf8` when absent. */
  encoding?: 'utf8' | 'latin1'
  /** Longest silence of the server; the transport's own when absent. */
  silenceMs?: number
  signal?: AbortSignal
}

export interface TransportResponse {
  status: number
  contentType: string
  body: string
}

export interface TransportStream {
  status: number
  contentType: string
  body: AsyncIterable<string>
}
