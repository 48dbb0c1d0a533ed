import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { VERSION } from '../../src/app/index.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { type OrreryProcess, startOrrery } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { makeDir, openScene, startProxy, startUp, WITHIN } from './rig.ts'

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port // it listens on TCP
}

/** A certificate that nobody signed; null where there is no openssl. */
function makeCertificate(): { key: string; cert: string; file: string } | null {
  const dir = makeDir()
  const [key, file] = [join(dir, 'key.pem'), join(dir, 'cert.pem')]
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
  const made = spawnSync('openssl', [
    ...['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', key, '-out', file],
    ...subject,
  ])
  return made.status === 0 ? { key: readFileSync(key, 'utf8'), cert: readFileSync(file, 'utf8'), file } : null
}

const hasOpenssl = spawnSync('openssl', ['version']).status === 0

/** Lines of a worker's log as JSON. */
const linesOf = (worker: OrreryProcess): Record<string, unknown>[] =>
  worker
    .stderr()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>)

function startWorker(address: string, env: Record<string, string> = {}): OrreryProcess {
  const dir = makeDir()
  const worker = startOrrery(
    ['worker', '--name', 'newcomer', '--server', address, '--workspace', dir, '--log-format', 'json'],
    { env: { ORRERY_WORKER_TOKEN: 'orr_any', XDG_DATA_HOME: dir, ...env } },
  )
  onTestFinished(() => worker.kill9())
  return worker
}

/** What the worker says of the way to its server; it goes on trying. */
async function faultAt(address: string): Promise<Record<string, unknown>> {
  const worker = startWorker(address)
  await worker.waitFor(/worker\.server_unreachable.*\n/, WITHIN)
  const line = linesOf(worker).find((l) => l['code'] === 'worker.server_unreachable')
  return line ?? {}
}

describe('WRK-16: a worker cannot reach its server at the first start', () => {
  test('the name is not known', async () => {
    expect(await faultAt('http://no-such-host.invalid:7780')).toMatchObject({
      layer: 'name',
      addressFrom: '--server',
      remediation: expect.stringContaining('host name'),
    })
  })

  test('the connection is refused', async () => {
    expect(await faultAt(`http://127.0.0.1:${await freePort()}`)).toMatchObject({
      layer: 'tcp',
      error: 'ECONNREFUSED',
      remediation: expect.stringContaining('orrery up'),
    })
  })

  test('TLS is asked of a server that speaks plain HTTP', async () => {
    const port = await listen(http.createServer((_, answer) => answer.end('{}')))
    expect(await faultAt(`https://127.0.0.1:${port}`)).toMatchObject({
      layer: 'tls',
      cause: 'client.tls_failed',
      remediation: expect.stringContaining('http://'),
    })
  })

  test.skipIf(!hasOpenssl)('plain HTTP is asked of a server that speaks TLS', async () => {
    const certificate = makeCertificate()
    const port = await listen(https.createServer({ ...certificate }, (_, answer) => answer.end('{}')))
    expect(await faultAt(`http://127.0.0.1:${port}`)).toMatchObject({
      layer: 'tls',
      error: 'HTTP_TO_TLS',
      remediation: expect.stringContaining('https://'),
    })
  })

  test.skipIf(!hasOpenssl)('the authority of its certificate is not known', async () => {
    const certificate = makeCertificate()
    const port = await listen(https.createServer({ ...certificate }, (_, answer) => answer.end('{}')))
    expect(await faultAt(`https://localhost:${port}`)).toMatchObject({
      layer: 'tls',
      error: expect.stringContaining('SELF_SIGNED'),
      remediation: expect.stringContaining('NODE_EXTRA_CA_CERTS'),
    })
  })

  test('a proxy answers in its place', async () => {
    const page = '<html><h1>502 Bad Gateway</h1></html>'
    const proxy = http.createServer((_, answer) => answer.writeHead(502, { 'content-type': 'text/html' }).end(page))
    expect(await faultAt(`http://127.0.0.1:${await listen(proxy)}`)).toMatchObject({
      layer: 'proxy',
      status: 502,
      begin: expect.stringContaining('Bad Gateway'),
      remediation: expect.stringContaining('proxy'),
    })
  })

  test('something answers that is no Orrery', async () => {
    const shop = http.createServer((_, answer) =>
      answer.writeHead(200, { 'content-type': 'text/html' }).end('<h1>shop'),
    )
    expect(await faultAt(`http://127.0.0.1:${await listen(shop)}`)).toMatchObject({
      layer: 'not-orrery',
      remediation: expect.stringContaining('Something else answers'),
    })
  })

  test('it tries again, tells each fault once, and is answered when the server comes', async () => {
    const port = await freePort()
    const worker = startWorker(`http://127.0.0.1:${port}`)
    await worker.waitFor(/ECONNREFUSED/, WITHIN)
    const asked: number[] = []
    const shop = http.createServer((_, answer) => {
      asked.push(asked.length)
      answer.writeHead(404, { 'content-type': 'text/html' }).end('<h1>shop')
    })
    await new Promise<void>((resolve) => shop.listen(port, '127.0.0.1', resolve))
    await eventually(() => asked.length >= 3, WITHIN)
    await new Promise((resolve) => shop.close(resolve))
    shop.closeAllConnections()
    const told = linesOf(worker).filter((l) => l['code'] === 'worker.server_unreachable')
    expect(told.map((l) => l['layer'])).toEqual(['tcp', 'not-orrery'])

    const up = await startUp(['--no-worker', '--store', 'embedded', '--port', String(port)])
    // The token of the test was none of this server's: now that it is reached, it says so and ends.
    expect(await worker.ended).toMatchObject({ code: 77 })
    expect(up.address).toContain(String(port))
  })
})

describeWithPostgres('WRK-16: a worker that is ready', (postgres) => {
  test('says so in one line with fixed fields, once, however often its session opens', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const proxy = await startProxy(scene.address)
    proxy.cut()
    const worker = await scene.startWorker({ name: 'steady', server: proxy.address, labels: ['gpu=yes'], waits: false })
    await worker.waitFor(/worker\.server_unreachable/, WITHIN)
    expect(worker.stderr()).not.toContain('worker.ready')
    proxy.mend()
    await worker.waitFor(/worker\.ready.*\n/, WITHIN)
    const ready = () => linesOf(worker).filter((l) => l['event'] === 'worker.ready')
    expect(ready()).toEqual([
      expect.objectContaining({
        message: 'worker ready',
        level: 'info',
        version: VERSION,
        serverVersion: VERSION,
        capacity: 4,
        backends: expect.arrayContaining(['function']),
        modules: ['t'],
        labels: { gpu: 'yes' },
        namespaces: null,
      }),
    ])
    // The server ends the session; the next one is no news.
    await scene.db.query(`update session set state = 'ended', ended_at = now(), ended_code = 'worker.lost'`)
    await eventually(() => linesOf(worker).filter((l) => l['message'] === 'session open').length === 2, WITHIN)
    expect(ready()).toHaveLength(1)
  })
})
