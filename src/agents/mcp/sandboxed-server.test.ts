import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../base/clock.ts'
import type { JsonObject } from '../../base/json.ts'
import { whyNoSandbox } from '../testing/sandbox-here.ts'
import { envelopeOf, mcpRig, serverOf } from '../testing/mcp-rig.ts'
import { serveTool } from '../testing/tool-server.ts'
import { startChild } from './child-transport.ts'

const noSandbox = whyNoSandbox()

/** A server in the shell, since that is below /usr on every host: its one tool runs what it is given, and gives what that said. */
const SERVER = String.raw`#!/bin/sh
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"method":"initialize"'*) result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
    *'"method":"tools/list"'*) result='{"tools":[{"name":"run","inputSchema":{"type":"object"}}]}' ;;
    *'"method":"tools/call"'*)
      script=$(printf '%s' "$line" | sed -n 's/.*"script":"\([^"]*\)".*/\1/p')
      text=$(eval "$script" 2>&1 | tr '\n\t"\\' '    ')
      result="{\"content\":[{\"type\":\"text\",\"text\":\"$text\"}]}" ;;
    *) continue ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
`

function filesWith(name: string, text: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'orrery-tools-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(join(dir, name), text)
  chmodSync(join(dir, name), 0o755)
  return dir
}

function shellServer(stdio: JsonObject = {}) {
  const files = filesWith('server.sh', SERVER)
  const { clients, env } = mcpRig({ files, secrets: { 's/k': 'hush-4711' } })
  const place = stdio['isolation'] === 'none' ? join(files, 'server.sh') : './server.sh'
  const spec = { transport: 'stdio', protocol: '2025-11-25', stdio: { command: place, isolation: 'sandbox', ...stdio } }
  const server = serverOf('shell', spec)
  const said = async (script: string): Promise<unknown> => {
    const result = await clients.call(server, 'run', envelopeOf({ script }), env)
    return result.ok ? String(result.output).trim() : result
  }
  return { said, clients, env, server, files }
}

test('a server that does not say otherwise runs as the worker would', async () => {
  const { said } = shellServer({ isolation: 'none' })
  expect(await said('id -u')).toBe(String(process.getuid?.()))
})

describe.skipIf(noSandbox !== null)(
  `a server in a sandbox${noSandbox === null ? '' : ` (skipped: ${noSandbox})`}`,
  () => {
    test('is nobody, in a /tmp of its own, and answers like any other', async () => {
      const { said, clients, env, server } = shellServer()
      expect((await clients.tools(server, env)).map(({ name }) => name)).toEqual(['shell.run'])
      expect(await said('id -u; hostname; pwd; echo $HOME; ls -A /tmp')).toBe('65534 tool /tmp /tmp')
    })

    test('has no network', async () => {
      const { said } = shellServer()
      const tool = await serveTool((_, response) => response.end('here'))
      expect(await said('cut -d: -f1 /proc/net/dev | tail -n +3')).toBe('lo')
      const reach = `bash -c 'exec 3<>/dev/tcp/127.0.0.1/${new URL(tool.url).port}' 2>/dev/null && echo yes || echo no`
      expect(await said(reach)).toBe('no')
      expect(tool.seen).toEqual([])
    })

    test('has no home, no file of the host but what is read only, and no process but its own', async () => {
      const { said, files } = shellServer()
      const secret = filesWith('secret', 'secret')
      const places = `${homedir()} ${secret} ${files} /etc/passwd /etc/shadow /var /root /home`
      expect(await said(`ls -d ${places} 2>/dev/null`)).toBe('')
      expect(await said('touch /usr/x /tools/x 2>/dev/null && echo wrote || echo no')).toBe('no')
      expect(await said(`kill -0 ${process.pid} 2>/dev/null && echo there || echo none`)).toBe('none')
    })

    test('has no environment but its own', async () => {
      const { said } = shellServer({ env: { CITY: 'Bern', TOKEN: { secret: 's', key: 'k' } } })
      const names = String(await said('env | cut -d= -f1 | sort')).split(/\s+/)
      expect(names.filter((name) => !/^(_|PWD|OLDPWD|SHLVL)$/.test(name))).toEqual([
        ...['CITY', 'HOME', 'LANG', 'PATH', 'TMPDIR', 'TOKEN'],
      ])
      expect(await said('echo $CITY ${#TOKEN}')).toBe('Bern 9')
    })

    test('ends with all that is in it when it is closed', async () => {
      const { said, clients } = shellServer()
      await said('setsid sleep 4322 >/dev/null 2>&1 & echo')
      const outside = (): string[] => processesOf('sleep 4322')
      // The shell has answered before the program that it left behind has begun.
      await expect.poll(outside).toHaveLength(1)
      await clients.close()
      await expect.poll(outside).toEqual([])
    })

    test('is refused where its program cannot be seen, with what would help', async () => {
      const { env } = mcpRig()
      for (const [command, files, remediation] of [
        ['./server.sh', null, /--tool-files DIR/],
        ['./other.sh', filesWith('server.sh', SERVER), /Put it into/],
        ['no-such-program', null, /correct spec\.stdio\.command/],
        [process.execPath, null, /files of the tools|correct spec\.stdio\.command/],
      ] as const) {
        const { clients } = mcpRig({ files })
        const server = serverOf('shell', { transport: 'stdio', stdio: { command, isolation: 'sandbox' } })
        await expect(clients.tools(server, env)).rejects.toMatchObject({
          code: 'tool.module_not_found',
          evidence: { server: 'default/shell' },
          remediation: expect.stringMatching(remediation),
        })
      }
    })
  },
)

describe('where there is no sandbox a server is not started', () => {
  const start = (find: (name: string) => string | null): Promise<unknown> =>
    startChild(
      { command: 'sh', args: [], env: {}, workdir: null, isolation: 'sandbox' },
      { path: null, programs: { files: null }, clock: systemClock, find },
    )

  test('and without bubblewrap the package is named', async () => {
    await expect(start(() => null)).rejects.toMatchObject({
      code: 'tool.isolation_unavailable',
      evidence: { program: 'bwrap' },
      remediation: expect.stringContaining('apt-get install bubblewrap'),
    })
  })

  test('and what the system said that forbids it is told', async () => {
    const forbids = '#!/bin/sh\necho "bwrap: No permissions to create new namespace" >&2\nexit 1\n'
    const dir = filesWith('bwrap', forbids)
    await expect(start(() => join(dir, 'bwrap'))).rejects.toMatchObject({
      code: 'tool.isolation_unavailable',
      evidence: { program: 'bwrap', said: 'bwrap: No permissions to create new namespace' },
      remediation: expect.stringContaining('user namespaces'),
    })
  })
})

function processesOf(words: string): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && commandOf(name) === words)
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
  } catch {
    return ''
  }
}
