import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { getCACertificates } from 'node:tls'
import { parentPort, workerData } from 'node:worker_threads'
import { systemClock } from '../base/clock.ts'
import { EXCHANGE_PATHS } from '../contract/exchange.ts'

/** What the thread is told when it begins. */
export interface HeartbeatThreadData {
  server: string
  token: string | null
  /** PEM of an authority to trust beside the known ones. */
  ca: string | null
  session: string
  heartbeatMs: number
}

// Given by `threadHeartbeats`, which is typed by the same interface.
const { server, token, ca, session, heartbeatMs } = workerData as HeartbeatThreadData
const url = new URL(server.replace(/\/+$/, '') + EXCHANGE_PATHS.heartbeat)
const isTls = url.protocol === 'https:'
const agent = isTls
  ? new HttpsAgent({
      keepAlive: true,
      maxSockets: 1,
      ...(ca === null ? {} : { ca: [...getCACertificates('default'), ca] }),
    })
  : new HttpAgent({ keepAlive: true, maxSockets: 1 })

/** The session's state as the server gives it; null when it could not be asked. */
function beat(): Promise<unknown> {
  return new Promise((resolve) => {
    const body = JSON.stringify({ session, clock: systemClock.now() })
    const headers: Record<string, string | number> = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    }
    if (token !== null) headers['authorization'] = `Bearer ${token}`
    const request = (isTls ? httpsRequest : httpRequest)(url, {
      method: 'POST',
      agent,
      headers,
      timeout: heartbeatMs * 2,
    })
    request.on('timeout', () => request.destroy(new Error('no answer')))
    request.on('error', () => resolve(null))
    request.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => {
        if (text.length < 4096) text += chunk
      })
      response.on('error', () => resolve(null))
      response.on('end', () => resolve(response.statusCode === 200 ? stateIn(text) : null))
    })
    request.end(body)
  })
}

function stateIn(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && 'sessionState' in value ? value.sessionState : null
  } catch {
    return null
  }
}

for (;;) {
  await systemClock.sleep(heartbeatMs)
  if ((await beat()) === 'ended') {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port has no origin
    parentPort?.postMessage('ended')
    break
  }
}
