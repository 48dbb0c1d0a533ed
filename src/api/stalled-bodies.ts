import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** How often in a row a body is found not to have moved before it counts as stalled. */
export const LOOKS = 4

interface Watched {
  incoming: IncomingMessage
  outgoing: ServerResponse
  bytesRead: number
  looks: number
  wasRefused: boolean
}

/**
 * Bodies that stopped coming. A slow upload that moves is none, and it is looks that are counted, not time: while this process is itself
 * too busy to read, nobody else is called late. By connection, so that it holds no more than there are connections.
 */
export class StalledBodies {
  readonly #watched = new Map<Socket, Watched>()
  readonly #refuse: (outgoing: ServerResponse, socket: Socket) => void

  constructor(refuse: (outgoing: ServerResponse, socket: Socket) => void) {
    this.#refuse = refuse
  }

  /** Watches a request that has a body, until the next one on its connection. */
  watch(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { headers, socket } = incoming
    if ((headers['content-length'] ?? '0') === '0' && headers['transfer-encoding'] === undefined) return
    if (!this.#watched.has(socket)) socket.once('close', () => this.#watched.delete(socket))
    this.#watched.set(socket, { incoming, outgoing, bytesRead: socket.bytesRead, looks: 0, wasRefused: false })
  }

  /** Refuses what has not moved during the last looks, and cuts what was refused and goes on holding its connection. */
  look(): void {
    for (const [socket, watched] of this.#watched) {
      const { incoming, outgoing, bytesRead } = watched
      // What came and was not read yet is our own delay.
      const isTheirs = !incoming.complete && incoming.readableLength === 0 && socket.bytesRead === bytesRead
      watched.looks = isTheirs ? watched.looks + 1 : 0
      watched.bytesRead = socket.bytesRead
      if (watched.looks < LOOKS) continue
      if (watched.wasRefused) socket.destroy()
      else this.#refuse(outgoing, socket)
      watched.wasRefused = true
      watched.looks = 0
    }
  }
}
