import { Worker as Thread } from 'node:worker_threads'
import type { Clock, Log, Secret } from '../base/index.ts'
import type { ExchangeLane, RegisterResponse } from '../contract/exchange.ts'
import type { HeartbeatThreadData } from './heartbeat-thread.ts'

export interface HeartbeatHandle {
  stop(): void
}

/** Keeps a session's lease until stopped. `onEnded` is called at most once: the server says that the session is over. */
export type StartHeartbeats = (
  session: Pick<RegisterResponse, 'session' | 'heartbeatMs'>,
  onEnded: () => void,
) => HeartbeatHandle

/** Heartbeats from the event loop itself: for a server in the same process, which stands still together with its worker. */
export function loopHeartbeats(deps: { lane: ExchangeLane; clock: Clock; log: Log }): StartHeartbeats {
  const { lane, clock, log } = deps
  return ({ session, heartbeatMs }, onEnded) => {
    const stop = new AbortController()
    const beat = async () => {
      while (!stop.signal.aborted) {
        try {
          await clock.sleep(heartbeatMs, stop.signal)
        } catch {
          return
        }
        try {
          const reply = await lane.heartbeat({ session, clock: clock.now() }, stop.signal)
          if (reply.sessionState === 'live' || stop.signal.aborted) continue
          onEnded()
          return
        } catch (error) {
          // The other lanes tell of outages; the next beat may get through.
          if (!stop.signal.aborted) log.debug('heartbeat failed', { session, error: String(error) })
        }
      }
    }
    void beat()
    return { stop: () => stop.abort(new Error('stopped')) }
  }
}

/** Heartbeats from a thread of their own, so that a step that blocks the event loop does not look dead. */
export function threadHeartbeats(deps: {
  /** Addresses of one installation's servers; a beat that one does not take goes to the next. */
  servers: readonly string[]
  token: Secret | null
  /** PEM of an authority to trust beside the known ones. */
  ca?: string | null
  log: Log
}): StartHeartbeats {
  const { servers, token, ca = null, log } = deps
  // The same file is run as it is written and as it is compiled.
  const entry = new URL(`./heartbeat-thread${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)
  return ({ session, heartbeatMs }, onEnded) => {
    const data: HeartbeatThreadData = { servers, token: token?.reveal() ?? null, ca, session, heartbeatMs }
    const thread = new Thread(entry, { workerData: data, execArgv: [], name: 'heartbeat' })
    let stopped = false
    thread.on('message', (message: unknown) => {
      if (message === 'ended' && !stopped) onEnded()
    })
    thread.on('error', (error) => {
      if (!stopped) log.error('heartbeat thread failed; the session will end with its lease', { error: String(error) })
    })
    thread.unref()
    return {
      stop: () => {
        stopped = true
        void thread.terminate()
      },
    }
  }
}
