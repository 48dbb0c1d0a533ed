import http from 'node:http'

/** What every peer is run with: `node PEER.mjs MODEL_PORT DSN CONVERSATIONS IN_FLIGHT`. */
const [port, dsn, conversations, inFlight] = process.argv.slice(2)
export const base = `http://127.0.0.1:${port}`
export const database = dsn
export const PROMPT = 'Add numbers until you are told that all is added. This is conversation'

const agent = new http.Agent({ keepAlive: true, maxSockets: 1_000 })

/** The tool: one request to the server that also plays the model. */
export function add(conversation, n) {
  const text = JSON.stringify({ conversation, n })
  return new Promise((resolve, reject) => {
    const request = http.request(
      `${base}/add`,
      { method: 'POST', agent, headers: { 'content-length': Buffer.byteLength(text) } },
      (response) => {
        let answer = ''
        response.on('data', (piece) => (answer += piece))
        response.on('end', () => resolve(answer))
      },
    )
    request.on('error', reject)
    request.end(text)
  })
}

/** Runs all conversations, some of them not counted first, and ends the process. */
export async function main(converse) {
  for (let i = 0; i < 100; i++) await converse(1_000_000 + i)
  await fetch(`${base}/reset`)
  let next = 0
  await Promise.all(
    Array.from({ length: Number(inFlight) }, async () => {
      while (next < Number(conversations)) await converse(next++)
    }),
  )
  console.log(JSON.stringify({ rssMb: Math.round(process.memoryUsage().rss / 1_048_576) }))
  process.exit(0)
}
