import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { failoverTransport } from './failover-transport.ts'
import { httpTransport } from './http-transport.ts'
import type { TransportRequest } from './transport.ts'

const open: http.Server[] = []
afterEach(async () => {
  for (const server of open.splice(0)) {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})

async function listen(answer: http.RequestListener): Promise<{ address: string; stop(): Promise<void> }> {
  const server = http.createServer(answer)
  open.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo // a server on a TCP port has an address of this form
  return {
    address: `http://127.0.0.1:${port}`,
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

const GET: TransportRequest = { method: 'GET', path: '/', headers: {}, body: null, repeatable: true }
const saying = (word: string, status = 200) =>
  listen((_request, response) => void response.writeHead(status, { 'content-type': 'text/plain' }).end(word))

function over(servers: readonly { address: string }[]) {
  const moves: { from: string; to: string }[] = []
  const transport = failoverTransport(
    servers.map(({ address }) => httpTransport({ address, addressFrom: '--server' })),
    (move) => moves.push(move),
  )
  return { transport, moves, ask: async () => (await transport.send(GET)).body }
}

test('one server that nobody listens at is passed over at once, and stays behind', async () => {
  const [gone, there] = [await saying('gone'), await saying('there')]
  await gone.stop()
  const { transport, moves, ask } = over([gone, there])
  expect([await ask(), await ask()]).toEqual(['there', 'there'])
  expect(moves).toEqual([{ from: gone.address, to: there.address }])
  expect(transport.address).toBe(there.address)
  transport.close()
})

test('a server that cannot serve is told of, and the next request goes to the other', async () => {
  const { transport, ask } = over([await saying('no database', 503), await saying('there')])
  expect([await ask(), await ask()]).toEqual(['no database', 'there'])
  transport.close()
})

test('a request that was sent and then cut is not repeated for its sender, who meets the next server', async () => {
  let looked = 0
  const rude = await listen((request) => {
    looked += 1
    request.socket.destroy()
  })
  const { transport, ask } = over([rude, await saying('there')])
  await expect(ask()).rejects.toMatchObject({ code: 'client.server_unreachable', evidence: { layer: 'http' } })
  expect(await ask()).toBe('there')
  expect(looked).toBe(1)
  transport.close()
})

test('requests that fail together move on once', async () => {
  const [first, second, third] = [await saying('1'), await saying('2'), await saying('3')]
  await first.stop()
  const { transport, moves, ask } = over([first, second, third])
  expect(await Promise.all([ask(), ask(), ask()])).toEqual(['2', '2', '2'])
  expect(moves).toHaveLength(1)
  transport.close()
})

test('when no server is there the failure names the last one tried, and ends', async () => {
  const [first, second] = [await saying('1'), await saying('2')]
  await first.stop()
  await second.stop()
  const { transport, ask } = over([first, second])
  await expect(ask()).rejects.toMatchObject({
    code: 'client.server_unreachable',
    evidence: { layer: 'tcp', address: second.address },
  })
  transport.close()
})

test('an abort moves nobody', async () => {
  const silent = await listen(() => undefined)
  const { transport, moves } = over([silent, await saying('there')])
  const stop = new AbortController()
  const asked = transport.send({ ...GET, signal: stop.signal })
  stop.abort(new Error('enough'))
  await expect(asked).rejects.toThrow('enough')
  expect(moves).toEqual([])
  transport.close()
})
