import tls from 'node:tls'

const PROBE_MS = 2_000

/** Whether a TLS handshake begins at this address, whoever signed its certificate. Never rejects; nothing is sent but the greeting. */
export function speaksTls({ host, port }: { host: string; port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    // Not trusted, and nothing is told to it: the question is only whether TLS is spoken there.
    const socket = tls.connect({ host, port, timeout: PROBE_MS, rejectUnauthorized: false })
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('secureConnect', () => end(true))
    socket.once('timeout', () => end(false))
    socket.once('error', () => end(false))
    socket.once('close', () => end(false))
  })
}
