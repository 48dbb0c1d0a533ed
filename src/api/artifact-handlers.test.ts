import { createHash } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Secret } from '../base/secret.ts'
import { type Client, createClient, handlerTransport, httpTransport } from '../client/index.ts'
import { ADMIN, type ApiRig, makeApi, serveApi } from './api-rig.ts'
import { ADMIN_TOKEN, RUN_ID } from './scripted-engine.ts'
import type { Serving } from './serve.ts'

/** Every byte there is: none may be changed on its way. */
const CONTENT = Buffer.from(Array.from({ length: 1_000 }, (_, i) => i % 256))
const SHA256 = createHash('sha256').update(CONTENT).digest('hex')
const FILE = { step: 'a', name: 'out/ü "b".bin' }
const PATH = `/v1/runs/${RUN_ID}/artifacts/content?${new URLSearchParams(FILE)}`

let rig: ApiRig
let serving: Serving
let address = ''
beforeEach(async () => {
  rig = makeApi()
  const view = { ...FILE, bytes: CONTENT.length, sha256: SHA256, createdAt: '', expiresAt: '' }
  rig.engine.artifacts = [{ view, chunks: [CONTENT.subarray(0, 300), CONTENT.subarray(300)] }]
  serving = await serveApi(rig.api)
  address = `http://127.0.0.1:${serving.port}`
})
afterEach(() => serving.close())

const bytesBy = async (client: Client): Promise<Buffer> => {
  const chunks: Uint8Array[] = []
  for await (const chunk of await client.openArtifact(RUN_ID, FILE)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

test('a file comes whole over a socket and in process, byte for byte', async () => {
  const token = new Secret(ADMIN_TOKEN)
  const over = createClient({ transport: httpTransport({ address }), token })
  const inside = createClient({ transport: handlerTransport(rig.api.fetch), token })
  expect((await bytesBy(over)).equals(CONTENT)).toBe(true)
  expect((await bytesBy(inside)).equals(CONTENT)).toBe(true)
  expect((await over.listArtifacts(RUN_ID)).items).toMatchObject([{ ...FILE, sha256: SHA256 }])
})

test('it is an attachment that no browser runs, and is not sent twice', async () => {
  const answer = await fetch(address + PATH, { headers: ADMIN })
  expect(Object.fromEntries(answer.headers)).toMatchObject({
    'content-type': 'application/octet-stream',
    'content-length': '1000',
    'content-disposition': `attachment; filename*=UTF-8''%C3%BC%20%22b%22.bin`,
    'x-content-type-options': 'nosniff',
    etag: `"${SHA256}"`,
  })
  await answer.arrayBuffer()
  const again = await fetch(address + PATH, { headers: { ...ADMIN, 'if-none-match': `"other", "${SHA256}"` } })
  expect(again.status).toBe(304)
  expect(await again.text()).toBe('')
})

test('one that is not there is told by its code', async () => {
  const answer = await fetch(address + PATH.replace('bin', 'none'), { headers: ADMIN })
  expect(answer.status).toBe(404)
  expect(await answer.json()).toMatchObject({ code: 'artifact.not_found' })
})
