// Files from a step's workspace to the person who asked for them, through a server and its worker.
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { expectNoProcessLeft, type OrreryProcess, runOrrery, startOrrery } from '../support/processes.ts'

const FLOW = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: files }
spec:
  steps:
    - name: build
      command: 'mkdir dist; head -c 700000 /dev/urandom > dist/app.bin; sha256sum < dist/app.bin | cut -c 1-64; echo notes > notes.txt'
      artifacts: [dist/**, { path: notes.txt, retention: 1h }]
    - name: fails
      command: 'echo why > reason.txt; exit 4'
      artifacts: [{ path: '*.txt', when: always }]
      onFailure: continue
`

let home = ''
let up: OrreryProcess
const orrery = (...args: string[]) => runOrrery(args, { env: { ORRERY_DATA_DIR: join(home, 'data') }, cwd: home })

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'orrery-files-'))
  up = startOrrery(['up', '--port', '0', '--log-level', 'warn'], { env: { ORRERY_DATA_DIR: join(home, 'data') } })
  await up.waitFor(/orrery is up {2}(\S+)/, { withinMs: 50_000 })
  await writeFile(join(home, 'files.yaml'), FLOW)
})
afterAll(async () => {
  await up.stop()
  await expectNoProcessLeft()
  await rm(home, { recursive: true, force: true })
})

test('files of steps are listed, fetched whole, and never written over what is there', async () => {
  const started = await orrery('run', 'files.yaml', '--detach')
  const id = started.stdout.trim()
  expect(await orrery('runs', 'wait', id, '--timeout', '60s')).toMatchObject({ code: 0 })
  const listed = await orrery('artifacts', 'list', id, '--json')
  const { artifacts } = JSON.parse(listed.stdout) as { artifacts: { step: string; name: string; sha256: string }[] }
  expect(artifacts.map(({ step, name }) => `${step} ${name}`)).toEqual([
    'build dist/app.bin',
    'build notes.txt',
    'fails reason.txt',
  ])
  const got = await orrery('artifacts', 'get', id, 'build', 'dist/app.bin')
  expect(got).toMatchObject({ code: 0, stderr: '' })
  const content = await readFile(join(home, 'app.bin'))
  const sha256 = createHash('sha256').update(content).digest('hex')
  expect(content).toHaveLength(700_000)
  expect(sha256).toBe(artifacts[0]?.sha256)
  // The step itself saw the same bytes.
  expect((await orrery('runs', 'logs', id, '--step', 'build')).stdout).toContain(sha256)
  const again = await orrery('artifacts', 'get', id, 'build', 'dist/app.bin')
  expect(again.code).toBe(2)
  expect(again.stderr).toContain('--force')
  expect((await orrery('artifacts', 'get', id, 'fails', 'reason.txt', '-o', '-')).stdout).toBe('why\n')
  const none = await orrery('artifacts', 'get', id, 'build', 'nothing')
  expect(none.code).toBe(66)
  expect(none.stderr).toContain('artifact.not_found')
})
