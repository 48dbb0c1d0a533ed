import { createServer } from 'node:net'
import { describe, expect, test } from 'vitest'
import { makeDir, refused, startUp } from './rig.ts'

describe('CFG-7: the port is taken', () => {
  test('refused, naming who holds it; freed, the server starts there', async () => {
    const holder = createServer()
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve))
    const address = holder.address()
    const port = address !== null && typeof address === 'object' ? address.port : 0
    const args = ['--store', 'embedded', '--no-worker', '--port', String(port)]
    const dataDir = makeDir()
    const { exit, failure } = await refused(['up', '--data-dir', dataDir, ...args])
    expect(exit).toBe(78)
    expect(failure).toMatchObject({
      code: 'config.port_in_use',
      evidence: { host: '127.0.0.1', port, heldBy: { pid: process.pid, name: expect.any(String) } },
      remediation: expect.stringMatching(new RegExp(`Stop process ${process.pid} .*--port`)),
    })

    await new Promise((resolve) => holder.close(resolve))
    // The refused server has let go of its data directory as well.
    const up = await startUp(args, { dataDir })
    expect(up.address).toBe(`http://127.0.0.1:${port}`)
    expect((await fetch(`${up.address}/readyz`)).status).toBe(200)
  })
})
