import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { deferred } from '../base/deferred.ts'
import { eventually } from './api-rig.ts'
import { LOOKS, StalledBodies } from './stalled-bodies.ts'

/** A server that reads bodies only when told to, and a client in the middle of an upload to it. */
async function startUpload() {
  const refused: string[] = []
  const stalled = new StalledBodies((outgoing) => void refused.push(outgoing.req.url ?? ''))
  const arrived = deferred<{ read: () => void; received: () => number; isHeld: () => boolean }>()
  const server = createServer((incoming, outgoing) => {
    stalled.watch(incoming, outgoing)
    let received = 0
    arrived.resolve({
      read: () => void incoming.on('data', (chunk: Buffer) => (received += chunk.length)),
      received: () => received,
      isHeld: () => incoming.readableLength > 0,
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo // it listens on a port
  const upload = request({ port, method: 'POST', path: '/upload', headers: { 'content-length': 1_000 } })
  const cut = deferred<void>()
  upload.on('error', () => cut.resolve())
  onTestFinished(async () => {
    upload.destroy()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  upload.flushHeaders()
  const look = (times: number) => {
    for (let n = 0; n < times; n++) stalled.look()
  }
  return { upload, refused, look, cut: cut.promise, incoming: await arrived.promise }
}

test('an upload that moves between the looks is never late, however long it takes', async () => {
  const { upload, refused, look, incoming } = await startUpload()
  incoming.read()
  for (let sent = 1; sent <= 20; sent++) {
    upload.write('x')
    await eventually(() => incoming.received() === sent)
    look(LOOKS - 1)
  }
  expect(refused).toEqual([])
})

test('one that has stopped is refused once, and cut when it keeps its connection', async () => {
  const { upload, refused, look, incoming, cut } = await startUpload()
  incoming.read()
  upload.write('x')
  await eventually(() => incoming.received() === 1)
  look(LOOKS)
  expect(refused).toEqual([])
  look(1)
  expect(refused).toEqual(['/upload'])
  look(LOOKS)
  await cut
  expect(refused).toEqual(['/upload'])
})

test('what has come and waits for this server to read it is not late', async () => {
  const { upload, refused, look, incoming } = await startUpload()
  upload.write('x')
  await eventually(incoming.isHeld)
  look(LOOKS * 3)
  expect(refused).toEqual([])
})
