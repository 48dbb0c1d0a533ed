import { createServer } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { z } from 'zod'

/**
 * A server of tools that behave badly on request: `node mcp-program.ts stdio|http [old]`. Over HTTP it says its port on standard output, and wants the
 * bearer token of TOKEN when that is set. What it was called with is written to standard error.
 */
const [, , transport, age] = process.argv

const text = (said: string) => ({ content: [{ type: 'text' as const, text: said }] })
let hasGrown = false
let calls = 0

function serverOf(notify: () => void): McpServer {
  const server = new McpServer(
    { name: 'badly-behaved', version: '1' },
    { capabilities: { tools: { listChanged: true } } },
  )
  const destructive = { destructiveHint: true, readOnlyHint: false }
  server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, ({ text: said }, context) => {
    calls++
    const meta = context.mcpReq._meta ?? {}
    return { ...text(said), structuredContent: { said, calls, meta } }
  })
  server.registerTool('variables', { annotations: { readOnlyHint: true } }, () => text(JSON.stringify(process.env)))
  server.registerTool('place', {}, () => text(process.cwd()))
  server.registerTool('wipe', { annotations: destructive }, () => text('wiped'))
  server.registerTool('fail', {}, () => ({ ...text('the disk is on fire'), isError: true }))
  server.registerTool('die', { inputSchema: z.object({ code: z.number() }) }, ({ code }) => {
    process.stderr.write('I shall be gone\n')
    process.exit(code)
  })
  server.registerTool('hang', {}, async (context) => {
    process.stderr.write('hanging\n')
    const token = context.mcpReq._meta?.progressToken
    const tell = setInterval(() => {
      if (token !== undefined)
        void context.mcpReq.notify({ method: 'notifications/progress', params: { progressToken: token, progress: 1 } })
    }, 20)
    await new Promise<void>((resolve) =>
      context.mcpReq.signal.addEventListener('abort', () => resolve(), { once: true }),
    )
    clearInterval(tell)
    process.stderr.write('told to stop\n')
    return text('stopped')
  })
  server.registerTool('flood', { inputSchema: z.object({ bytes: z.number() }) }, ({ bytes }) => text('x'.repeat(bytes)))
  server.registerTool('picture', {}, () => ({
    content: [
      { type: 'text' as const, text: 'see' },
      { type: 'image' as const, mimeType: 'image/png', data: Buffer.alloc(1_000).toString('base64') },
    ],
  }))
  server.registerTool('chatter', {}, () => {
    process.stdout.write('this line is no message\n')
    return text('said it')
  })
  server.registerTool('grow', {}, () => {
    hasGrown = true
    if (transport === 'stdio') server.registerTool('grown', {}, () => text('I am new'))
    else notify()
    return text('grown')
  })
  if (hasGrown) server.registerTool('grown', {}, () => text('I am new'))
  return server
}

if (transport === 'stdio') {
  if (age === 'old') {
    // As servers of the first revisions do: what comes before the handshake ends them.
    process.stdin.once('data', (chunk: Buffer) => {
      if (!chunk.toString().includes('"initialize"')) process.exit(3)
    })
  }
  serveStdio(() => serverOf(() => {}))
} else {
  const handler = createMcpHandler(() => serverOf(() => handler.notify.toolsChanged()))
  const token = process.env['TOKEN']
  const listener = getRequestListener((request) =>
    token !== undefined && request.headers.get('authorization') !== `Bearer ${token}`
      ? new Response('who are you?', { status: 401 })
      : handler.fetch(request),
  )
  const server = createServer((request, response) => void listener(request, response))
  server.listen(Number(process.env['PORT'] ?? 0), '127.0.0.1', () => {
    const address = server.address()
    process.stdout.write(`${typeof address === 'object' ? address?.port : ''}\n`)
  })
}
