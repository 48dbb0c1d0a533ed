import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setImmediate as turnOfLoop } from 'node:timers/promises'
import { createGzip, gzipSync } from 'node:zlib'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { LIMITS } from '../domain/limits.ts'
import { createEgress, type Egress, type Resolve, withinHosts } from './egress.ts'
import { type EgressPolicy, hostRefusal, refusalOf } from './egress-rules.ts'

const PUBLIC: EgressPolicy = { allowPrivate: false, onlyPrivate: false }
const PRIVATE: EgressPolicy = { allowPrivate: true, onlyPrivate: false }
const LOCAL: EgressPolicy = { allowPrivate: true, onlyPrivate: true }

describe('whom an address belongs to', () => {
  test.for([
    '169.254.169.254',
    '169.254.0.1',
    '::ffff:169.254.169.254',
    '::ffff:a9fe:a9fe',
    '64:ff9b::a9fe:a9fe',
    '64:ff9b::169.254.169.254',
    '2002:a9fe:a9fe::1',
    '::a9fe:a9fe',
    'fe80::1',
    'fe80::1%eth0',
    'fd00:ec2::254',
    '100.100.100.200',
    '168.63.129.16',
    '224.0.0.1',
    'ff02::1',
    '255.255.255.255',
  ])('%s is never called', (address) => {
    for (const policy of [PUBLIC, PRIVATE, LOCAL])
      expect(refusalOf(address, policy)).toMatch(/link-local, multicast or tells the metadata/)
  })

  test.for([
    '127.0.0.1',
    '127.9.9.9',
    '0.0.0.0',
    '10.1.2.3',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '100.64.0.1',
    '::1',
    '::',
    'fd12:3456::1',
    '::ffff:127.0.0.1',
    '::ffff:10.0.0.1',
    '64:ff9b::7f00:1',
    '2002:a00:1::',
  ])('%s is called where private addresses are allowed', (address) => {
    expect(refusalOf(address, PUBLIC)).toBe('is loopback or private')
    expect([refusalOf(address, PRIVATE), refusalOf(address, LOCAL)]).toEqual([null, null])
  })

  test.for(['8.8.8.8', '172.32.0.1', '2606:4700::1', '::ffff:8.8.8.8', '64:ff9b::808:808'])(
    '%s is called, except by what is local',
    (address) => {
      expect([refusalOf(address, PUBLIC), refusalOf(address, PRIVATE)]).toEqual([null, null])
      expect(refusalOf(address, LOCAL)).toBe('is public, and the endpoint is local')
    },
  )

  test('what is no address is refused', () => expect(refusalOf('localhost', PRIVATE)).toBe('is no address'))
})

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.closeAllConnections()
})

async function listen(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<number> {
  const server = createServer(answer)
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port // listening on TCP
}

function egressOf(names: Record<string, string[]>) {
  const asked: string[] = []
  const resolve: Resolve = (name, done) => {
    asked.push(name)
    const addresses = names[name] ?? []
    done(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    )
  }
  const egress = createEgress(resolve)
  onTestFinished(() => egress.close())
  return { egress, asked }
}

interface Init {
  method?: string
  body?: string | null
  headers?: Record<string, string>
  signal?: AbortSignal
}

type Ask = (
  url: string,
  policy: EgressPolicy,
  egress: Pick<Egress, 'fetch' | 'requests'>,
  init?: Init,
  credentials?: string[],
) => Promise<{ status: number; text(): Promise<string> }>

/** A request leaves in two forms, with the same guard. */
const FORMS: Record<'fetch' | 'requests', Ask> = {
  fetch: (url, policy, egress, init, credentials) =>
    egress.fetch(policy, credentials)(url, { method: 'POST', body: 'hello', ...init }),
  async requests(url, policy, egress, init, credentials) {
    const request = { method: 'POST', body: 'hello', headers: {}, ...init }
    const { status, body } = await egress.requests(policy, credentials)(url, request)
    return { status, text: () => text(body) }
  },
}

describe.for(Object.entries(FORMS))('what leaves as %s', ([form, ask]) => {
  test('goes to the address that the name was found to have, and only where that is allowed', async () => {
    const port = await listen((request, response) => response.end(`${request.method} ${request.headers.host}`))
    const { egress, asked } = egressOf({ 'model.test': ['127.0.0.1'] })
    const url = `http://model.test:${port}/v1`
    expect(await (await ask(url, PRIVATE, egress)).text()).toBe(`POST model.test:${port}`)
    await expect(ask(url, PUBLIC, egress)).rejects.toMatchObject({
      code: 'model.address_blocked',
      evidence: { host: 'model.test', address: '127.0.0.1', why: 'is loopback or private' },
      remediation: expect.stringContaining('allowPrivateAddresses'),
    })
    expect(asked).toEqual(['model.test', 'model.test'])
  })

  test('goes nowhere when one of the addresses of a name is forbidden', async () => {
    const port = await listen((_, response) => response.end('here'))
    const { egress } = egressOf({ 'model.test': ['127.0.0.1', '169.254.169.254'] })
    await expect(ask(`http://model.test:${port}/`, PRIVATE, egress)).rejects.toMatchObject({
      code: 'model.address_blocked',
      evidence: { address: '169.254.169.254' },
    })
  })

  test.for(['http://169.254.169.254/latest/meta-data', 'http://[::ffff:a9fe:a9fe]/', 'http://0xa9fea9fe/'])(
    'never goes to %s',
    async (url) => {
      const { egress, asked } = egressOf({})
      await expect(ask(url, PRIVATE, egress)).rejects.toMatchObject({ code: 'model.address_blocked' })
      expect(asked).toEqual([])
    },
  )

  test('is not led on to where it may not go', async () => {
    let location = 'http://169.254.169.254/latest'
    const port = await listen((_, response) => response.writeHead(307, { location }).end())
    const { egress } = egressOf({ 'inner.test': ['169.254.169.254'] })
    const url = `http://127.0.0.1:${port}/`
    await expect(ask(url, PRIVATE, egress)).rejects.toMatchObject({ code: 'model.address_blocked' })
    location = 'http://inner.test/latest'
    await expect(ask(url, PRIVATE, egress)).rejects.toMatchObject({ evidence: { host: 'inner.test' } })
    location = 'file:///etc/passwd'
    await expect(ask(url, PRIVATE, egress)).rejects.toMatchObject({ evidence: { why: 'is no address of HTTP' } })
  })

  test('is led on with its body, without its keys when it is to another origin, and not for ever', async () => {
    const seen: string[] = []
    const target = await listen((request, response) => {
      request.setEncoding('utf8').on('data', (text: string) => seen.push(text))
      seen.push(...['authorization', 'x-amz-security-token', 'x-kept'].map((name) => String(request.headers[name])))
      request.on('end', () => response.end('there'))
    })
    const port = await listen((request, response) =>
      response.writeHead(308, { location: request.url === '/loop' ? '/loop' : `http://127.0.0.1:${target}/` }).end(),
    )
    const { egress } = egressOf({})
    const headers = { authorization: 'Bearer secret', 'x-amz-security-token': 'session', 'x-kept': 'yes' }
    expect(await (await ask(`http://127.0.0.1:${port}/`, PRIVATE, egress, { headers })).text()).toBe('there')
    expect(seen).toEqual(['undefined', 'undefined', 'yes', 'hello'])
    expect((await ask(`http://127.0.0.1:${port}/loop`, PRIVATE, egress, { headers })).status).toBe(308)
  })

  test('is led on by every redirect when it only reads, and by none that would make another request of it', async () => {
    let status = 301
    const port = await listen((request, response) =>
      request.url === '/there'
        ? response.end(request.method)
        : response.writeHead(status, { location: '/there' }).end(),
    )
    const { egress } = egressOf({})
    const url = `http://127.0.0.1:${port}/`
    for (status of [301, 302, 303, 307, 308])
      expect(await (await ask(url, PRIVATE, egress, { method: 'GET', body: null })).text()).toBe('GET')
    for (status of [301, 302, 303]) expect((await ask(url, PRIVATE, egress)).status).toBe(status)
  })

  test('leaves behind what shows who calls, by whatever header', async () => {
    const seen: (string | string[] | undefined)[] = []
    const target = await listen((request, response) => {
      seen.push(request.headers['x-our-key'])
      response.end()
    })
    const port = await listen((_, response) =>
      response.writeHead(302, { location: `http://127.0.0.1:${target}/` }).end(),
    )
    const { egress } = egressOf({})
    const init = { method: 'GET', body: null, headers: { 'x-our-key': 'secret' } }
    for (const credentials of [[], ['x-our-key']])
      await ask(`http://127.0.0.1:${port}/`, PRIVATE, egress, init, credentials)
    expect(seen).toEqual(['secret', undefined])
  })

  test('is answered in full, but a refusal only as far as somebody reads it', async () => {
    const chunk = Buffer.alloc(64 * 1024, 'x')
    const port = await listen((request, response) => {
      const isRefused = request.url === '/refused'
      response.writeHead(isRefused ? 500 : 200)
      // A refusal that never ends, and an answer that does.
      const write = (left: number): void => {
        if (left === 0) response.end()
        else response.write(chunk, (error) => error ?? write(isRefused ? left : left - 1))
      }
      write(8)
    })
    const { egress } = egressOf({})
    const sizeOf = async (path: string) =>
      (await (await ask(`http://127.0.0.1:${port}${path}`, PRIVATE, egress)).text()).length
    expect(await sizeOf('/refused')).toBe(LIMITS.refusalBytes)
    expect(await sizeOf('/')).toBe(8 * chunk.length)
  })

  test.for(['plain', 'compressed'])('is not read for ever when its %s answer does not end', async (form) => {
    const chunk = Buffer.alloc(1024 * 1024, 'x')
    const gone = Promise.withResolvers<void>()
    const port = await listen((_, response) => {
      response.on('close', () => gone.resolve())
      response.writeHead(200, form === 'compressed' ? { 'content-encoding': 'gzip' } : {})
      const body = form === 'compressed' ? createGzip() : new PassThrough()
      body.pipe(response)
      const write = (): void => void body.write(chunk, (error) => error ?? setImmediate(write))
      response.on('close', () => body.destroy())
      body.on('error', () => {})
      write()
    })
    const { egress } = egressOf({})
    const response = await ask(`http://127.0.0.1:${port}/`, PRIVATE, egress)
    await expect(response.text()).rejects.toThrow(`larger than ${LIMITS.answerBytes} bytes`)
    await gone.promise
  })

  test('to a name that nobody knows says so', async () => {
    const { egress } = egressOf({})
    const fault = { code: 'ENOTFOUND' }
    await expect(ask('http://nowhere.test/', PRIVATE, egress)).rejects.toMatchObject(
      form === 'fetch' ? { cause: fault } : fault,
    )
  })

  test.for([
    ['http://127.0.0.1:25/', 'port 25 is of another protocol'],
    ['http://me:secret@127.0.0.1/', 'has a name or a password in it'],
    ['data:text/plain,hello', 'is no protocol of HTTP'],
  ] as const)('is never %s', async ([url, why]) => {
    const { egress } = egressOf({})
    const error: unknown = await ask(url, PRIVATE, egress).catch((fault: unknown) => fault)
    expect(error).toBeInstanceOf(TypeError)
    const { cause = error } = error as TypeError
    expect(String(cause)).toContain(why)
  })

  test('is answered after hints that come before the answer, by one that was packed for the way', async () => {
    const port = await listen((request, response) => {
      response.writeEarlyHints({ link: '</style.css>; rel=preload' })
      response.writeHead(200, { 'content-encoding': 'gzip' })
      response.end(gzipSync(`${request.headers['accept-encoding']} ${request.headers['x-asked']}`))
    })
    const { egress } = egressOf({})
    const answer = await ask(`http://127.0.0.1:${port}/`, PRIVATE, egress, { headers: { 'x-asked': 'yes' } })
    expect([answer.status, await answer.text()]).toEqual([200, 'gzip, br yes'])
  })

  test('is over when its signal says so: before there is a connection, before there is an answer, and in the middle of one', async () => {
    const asked: string[] = []
    const wasAsked = Promise.withResolvers<void>()
    const gone = Promise.withResolvers<void>()
    const port = await listen((request, response) => {
      asked.push(request.url ?? '')
      response.on('close', () => asked.length === 2 && gone.resolve())
      if (request.url === '/silent') return wasAsked.resolve()
      response.writeHead(200).write('begun')
    })
    const { egress } = egressOf({})
    const stop = new AbortController()
    const reason = new Error('over')
    const silent = ask(`http://127.0.0.1:${port}/silent`, PRIVATE, egress, { signal: stop.signal })
    const open = await ask(`http://127.0.0.1:${port}/open`, PRIVATE, egress, { signal: stop.signal })
    await wasAsked.promise
    stop.abort(reason)
    await expect(silent).rejects.toBe(reason)
    await expect(open.text()).rejects.toBe(reason)
    await expect(ask(`http://127.0.0.1:${port}/late`, PRIVATE, egress, { signal: stop.signal })).rejects.toBe(reason)
    await gone.promise
    expect(asked.toSorted()).toEqual(['/open', '/silent'])
  })
})

test('an answer that nobody reads holds no connection', async () => {
  const gone = Promise.withResolvers<void>()
  const port = await listen((_, response) => {
    response.on('close', () => gone.resolve())
    response.writeHead(200).write('begun')
  })
  const { egress } = egressOf({})
  const reply = await egress.requests(PRIVATE)(`http://127.0.0.1:${port}/`, { method: 'GET', headers: {}, body: null })
  reply.discard()
  await gone.promise
})

test('what is read slowly comes slowly: the rest waits with whoever sends it', async () => {
  const chunk = Buffer.alloc(1024 * 1024, 'x')
  let written = 0
  const port = await listen((_, response) => {
    const write = (): void => void response.write(chunk, (error) => error ?? (written++, write()))
    response.writeHead(200)
    write()
  })
  const { egress } = egressOf({})
  const reply = await egress.requests(PRIVATE)(`http://127.0.0.1:${port}/`, { method: 'GET', headers: {}, body: null })
  await reply.body[Symbol.asyncIterator]().next()
  for (let turns = 0; turns < 2_000; turns++) await turnOfLoop()
  expect(written).toBeLessThan(32)
  reply.discard()
})

test('what is not HTTP is connected to the address that was looked at', async () => {
  const { egress } = egressOf({ 'tool.test': ['10.0.0.7'], 'mixed.test': ['8.8.8.8', '169.254.169.254'] })
  expect(await egress.addressOf('tool.test', PRIVATE)).toBe('10.0.0.7')
  expect(await egress.addressOf('8.8.8.8', PUBLIC)).toBe('8.8.8.8')
  expect(await egress.addressOf('[2606:4700::1]', PUBLIC)).toBe('2606:4700::1')
  for (const host of ['tool.test', 'mixed.test', '127.0.0.1', '[::1]'])
    await expect(egress.addressOf(host, PUBLIC)).rejects.toMatchObject({ code: 'model.address_blocked' })
  await expect(egress.addressOf('nowhere.test', PUBLIC)).rejects.toMatchObject({ code: 'ENOTFOUND' })
})

describe('hosts that rules let be called', () => {
  const rule = (name: string, ...hosts: string[]) => ({ rule: `policy/${name}`, hosts })

  test.for<[host: string, patterns: string[], isLet: boolean]>([
    ['api.example.com', ['api.example.com'], true],
    ['API.example.com.', ['api.example.com'], true],
    ['api.example.com', ['*.example.com'], true],
    ['example.com', ['*.example.com'], false],
    ['badexample.com', ['*.example.com'], false],
    ['api.example.com.evil.test', ['*.example.com', 'api.example.com'], false],
    ['[::1]', ['::1'], true],
    ['api.example.com', [], false],
  ])('%s under %j: %s', ([host, patterns, isLet]) => {
    expect(hostRefusal(host, [rule('p', ...patterns)]) === null).toBe(isLet)
  })

  test('have to be in the list of every rule', () => {
    const rules = [rule('a', 'x.test', 'y.test'), rule('b', 'y.test')]
    expect(hostRefusal('x.test', rules)?.rule).toBe('policy/b')
    expect(hostRefusal('y.test', rules)).toBeNull()
    expect(hostRefusal('anything.test')).toBeNull()
  })

  test.for(Object.values(FORMS))(
    'are held to for the first address, for where a redirect leads, and for what is not HTTP',
    async (ask) => {
      const port = await listen((request, response) => {
        if (request.url === '/away') response.writeHead(307, { location: `http://away.test:${port}/` }).end()
        else response.end('here')
      })
      const { egress, asked } = egressOf({ 'here.test': ['127.0.0.1'], 'away.test': ['127.0.0.1'] })
      const within = withinHosts(egress, [rule('hosts', 'here.test')])
      const call = (url: string) => ask(url, PRIVATE, within)
      expect(await (await call(`http://here.test:${port}/`)).text()).toBe('here')
      const refusal = expect.objectContaining({
        code: 'policy.denied',
        evidence: { rule: 'policy/hosts', part: 'egress.hosts', host: 'away.test', hosts: ['here.test'] },
      })
      await expect(call(`http://away.test:${port}/`)).rejects.toEqual(refusal)
      await expect(call(`http://here.test:${port}/away`)).rejects.toEqual(refusal)
      await expect(within.addressOf('away.test', PRIVATE)).rejects.toEqual(refusal)
      expect(await within.addressOf('here.test', PRIVATE)).toBe('127.0.0.1')
      // Whoever may not be called is not even looked up.
      expect(asked).not.toContain('away.test')
      expect(withinHosts(egress, [])).toBe(egress)
    },
  )
})
