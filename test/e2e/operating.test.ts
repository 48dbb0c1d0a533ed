// What the guide to operating says about other programs is tried with them, where they are installed.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openClient } from '../../src/client/index.ts'
import { loadConfig } from '../../src/cli/config.ts'
import { eventually } from '../support/eventually.ts'
import { freePort } from '../support/free-port.ts'
import { blocksOf } from '../support/guide.ts'
import { findPostgres } from '../support/postgres.ts'
import { expectNoProcessLeft, type OrreryProcess, runOrrery, startOrrery } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'

const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'guides', 'operating.md'), 'utf8')
const has = (program: string, ...args: string[]): boolean => spawnSync(program, args).error === undefined

let home = ''
beforeAll(() => {
  home = mkdtempSync(join(tmpdir(), 'orrery-operating-'))
})
afterAll(async () => {
  await expectNoProcessLeft()
  rmSync(home, { recursive: true, force: true })
})

/** The file of the guide, written where a test may look at it. */
function fileOf(name: string, change: (text: string) => string = (text) => text): string {
  const block = blocksOf(page).find((b) => b.kind === 'file' && b.path === name)
  if (block?.kind !== 'file') throw new Error(`the guide has no ${name}`)
  const path = join(home, name)
  writeFileSync(path, change(block.text))
  return path
}

describe('the files of the guide', () => {
  test('server.yaml is taken as it is', () => {
    const path = fileOf('server.yaml')
    const dsn = 'postgres://orrery@db.example/orrery'
    const file = { path, text: readFileSync(path, 'utf8') }
    const outcome = loadConfig({ flags: {}, env: { ORRERY_POSTGRES_DSN: dsn }, file, cwd: home })
    expect(outcome).toMatchObject({ kind: 'loaded', config: { host: '127.0.0.1', trustedProxies: ['127.0.0.1'] } })
  })

  test('worker.yaml is taken as it is', () => {
    const path = fileOf('worker.yaml')
    const file = { path, text: readFileSync(path, 'utf8') }
    const config = { modules: { jobs: '/srv/jobs/jobs.ts' }, labels: { gpu: 'yes' }, capacity: 8 }
    expect(loadConfig({ flags: {}, env: {}, file, cwd: home })).toMatchObject({ kind: 'loaded', config })
  })

  test.skipIf(!has('systemd-analyze', '--version'))('the units are what systemd takes', () => {
    for (const name of ['orrery-server.service', 'orrery-worker.service']) {
      const unit = fileOf(name, (text) => text.replaceAll('/usr/local/bin/orrery', process.execPath))
      const checked = spawnSync('systemd-analyze', ['verify', '--man=no', '--recursive-errors=no', unit], {
        encoding: 'utf8',
      })
      // What it says of other units is the machine's.
      const said = (checked.stdout + checked.stderr).split('\n').filter((line) => line.includes('orrery'))
      expect({ name, said, status: checked.status }).toEqual({ name, said: [], status: 0 })
    }
  })

  test.skipIf(!has('nginx', '-v') || !has('openssl', 'version'))(
    'through the proxy events come as they happen, and waiting works',
    async () => {
      const [near, far] = [await freePort(), await freePort()]
      const [key, cert] = [join(home, 'server.key'), join(home, 'server.pem')]
      const subject = ['-days', '2', '-subj', '/CN=orrery', '-addext', 'subjectAltName=IP:127.0.0.1']
      execFileSync(
        'openssl',
        ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', cert, ...subject],
        {
          stdio: 'ignore',
        },
      )
      const conf = fileOf('orrery.conf', (text) =>
        text
          .replaceAll('/etc/orrery', home)
          .replace('listen 443', `listen ${near}`)
          .replace('127.0.0.1:7780', `127.0.0.1:${far}`),
      )
      const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
        .map((name) => `${name}_temp_path ${join(home, name)};`)
        .join(' ')
      const main = join(home, 'nginx.conf')
      const whole = `daemon off; pid ${join(home, 'nginx.pid')}; error_log stderr; events {} http { access_log off; ${temporary} include ${conf}; }`
      writeFileSync(main, whole)
      const token = 'orr_proxied_0123456789abcdef'
      const env = { ORRERY_DATA_DIR: join(home, 'proxied'), ORRERY_ADMIN_TOKEN: token }
      const up = startOrrery(['up', '--port', String(far), '--trusted-proxy', '127.0.0.1', '--log-level', 'warn'], {
        env,
      })
      await up.waitFor(/orrery is up/, { withinMs: 50_000 })
      const nginx = spawn('nginx', ['-c', main], { stdio: 'ignore' })
      const ended = new Promise((resolve) => nginx.once('exit', resolve))
      const client = openClient({ server: `https://127.0.0.1:${near}`, token, ca: readFileSync(cert, 'utf8') })
      try {
        await eventually(() => client.getReadiness(), { withinMs: 10_000 })
        const gate = join(home, 'gate')
        const steps = [{ name: 'one', command: `until [ -e ${gate} ]; do sleep 0.05; done` }]
        const workflow = { apiVersion: 'orrery.dev/v1', kind: 'Workflow', metadata: { name: 'one' }, spec: { steps } }
        const { id } = await client.createRun({ workflow })
        const waiting = client.waitForRun(id, { timeoutMs: 30_000 })
        const seen: string[] = []
        for await (const event of client.followEvents(id)) {
          seen.push(...event.changes.map((change) => `${change.of} ${change.to}`))
          // Told while the run goes on, or it would never end.
          if (event.changes.some((change) => change.of === 'one' && change.to === 'running')) writeFileSync(gate, '')
        }
        expect(seen.at(-1)).toBe('run succeeded')
        expect(await waiting).toMatchObject({ state: 'succeeded' })
      } finally {
        client.close()
        nginx.kill('SIGTERM')
        await ended
        await up.stop()
      }
    },
  )
})

describeWithPostgres('a back-up of PostgreSQL', (postgres) => {
  const installed = findPostgres()
  const program = (name: string) => (installed.kind === 'found' ? join(installed.bin, name) : name)
  const key = Buffer.alloc(32, 7).toString('base64')

  async function start(dsn: string, data: string): Promise<{ up: OrreryProcess; address: string }> {
    const up = startOrrery(['up', '--store', 'postgres', '--port', '0', '--log-level', 'warn'], {
      env: {
        ORRERY_POSTGRES_DSN: dsn,
        ORRERY_DATA_DIR: join(home, data),
        ORRERY_ADMIN_TOKEN: 'orr_restored_0123456789abcdef',
        ORRERY_SECRETS_KEY: key,
      },
    })
    return { up, address: (await up.waitFor(/orrery is up {2}(\S+)/, { withinMs: 50_000 }))[1] ?? '' }
  }

  test.skipIf(!has(program('pg_dump'), '--version'))(
    'is restored to another database: runs and secrets are there, and what waited goes on',
    async () => {
      const [from, to] = [await postgres.createDatabase(), await postgres.createDatabase()]
      const first = await start(from, 'first')
      const token = 'orr_restored_0123456789abcdef'
      const before = openClient({ server: first.address, token })
      const steps = [
        { name: 'go', wait: { event: 'go' } },
        {
          name: 'use',
          needs: ['go'],
          command: 'test "$TOKEN" = hunter2-hunter2',
          env: { TOKEN: { secret: 'github', key: 'token' } },
        },
      ]
      const workflow = { apiVersion: 'orrery.dev/v1', kind: 'Workflow', metadata: { name: 'waits' }, spec: { steps } }
      await before.putSecret('default', 'github', { values: { token: 'hunter2-hunter2' } })
      const { id } = await before.createRun({ workflow })
      const dump = join(home, 'orrery.dump')
      execFileSync(program('pg_dump'), ['--format=custom', `--file=${dump}`, from])
      before.close()
      await first.up.stop()

      execFileSync(program('pg_restore'), ['--no-owner', `--dbname=${to}`, dump])
      const second = await start(to, 'second')
      const after = openClient({ server: second.address, token })
      await after.sendEvent(id, { name: 'go' })
      expect(await after.waitForRun(id, { timeoutMs: 30_000 })).toMatchObject({ state: 'succeeded' })
      after.close()
      const env = { ORRERY_SERVER: second.address, ORRERY_TOKEN: token }
      expect((await runOrrery(['secret', 'list'], { env })).stdout).toContain('github')
      await second.up.stop()
    },
  )
})
