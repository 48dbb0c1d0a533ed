import { describe, expect, test } from 'vitest'
import { runOrrery } from '../support/processes.ts'
import { describeWithPostgres } from '../support/shared-postgres.ts'
import { makeDir, openScene, refused, startUp, writeBelow } from './rig.ts'

const MANIFEST = `apiVersion: orrery.dev/v1
kind: Workflow
metadata:
  name: scenario
spec:
  modules: { t: ./functions.ts }
  steps:
    - name: first
      funktion: t.echo
      retry:
        max: many
    - name: second
      function: t.echo
      timeout: soon
      neds: [first]
`
const MENDED = MANIFEST.replace('funktion', 'function')
  .replace('many', '2')
  .replace('soon', '1m')
  .replace('neds', 'needs')

describe('CFG-3: a configuration file is wrong', () => {
  test('an unknown key: its place and the nearest one', async () => {
    const file = writeBelow(makeDir(), 'orrery.yaml', 'store: embedded\nlogLvel: debug\n')
    const { exit, failure } = await refused(['up', '--config', file])
    expect(exit).toBe(78)
    expect(failure).toMatchObject({
      code: 'config.key_unknown',
      evidence: { problems: [{ file, line: 2, column: 1, nearest: 'logLevel' }] },
    })
  })

  test('everything at once, with the line shown; corrected, the server starts', async () => {
    const dir = makeDir()
    const file = writeBelow(dir, 'orrery.yaml', 'prot: 1234\ncapacity: many\nlogFormat: xml\n')
    const { exit, failure } = await refused(['up', '--config', file])
    expect(exit).toBe(78)
    expect(failure).toMatchObject({
      code: 'config.invalid',
      evidence: {
        problems: [
          { code: 'config.key_unknown', line: 1, column: 1, nearest: 'port' },
          { code: 'config.value_unsupported', path: 'capacity', line: 2, column: 11 },
          { code: 'config.value_unsupported', path: 'logFormat', line: 3, column: 12 },
        ],
      },
    })
    const text = await runOrrery(['up', '--config', file])
    expect(text.stderr).toContain(`${file}:1:1`)
    expect(text.stderr).toContain('did you mean "port"?')
    expect(text.stderr).toContain('2 | capacity: many')

    writeBelow(dir, 'orrery.yaml', 'capacity: 2\nlogFormat: json\nworker: false\n')
    const up = await startUp(['--config', file])
    expect(await up.client.getHealth()).toMatchObject({ status: 'ok' })
  })
})

describeWithPostgres('CFG-3: a manifest is wrong', (postgres) => {
  const problems = [
    { line: 9, column: 7, nearest: 'function' },
    { line: 11, column: 14, path: 'spec.steps[0].retry.max' },
    { line: 14, column: 16, path: 'spec.steps[1].timeout' },
    { line: 15, column: 7, nearest: 'needs' },
  ]

  test('all problems with their places, by command line and API; nothing is stored; corrected, it runs', async () => {
    const scene = await openScene({ dsn: await postgres.createStore() })
    const file = writeBelow(scene.dir, 'flow.yaml', MANIFEST)
    const end = await scene.orrery('run', file, '--json')
    expect(end.code).toBe(65)
    const { failure } = JSON.parse(end.stderr)
    expect(failure).toMatchObject({
      code: 'manifest.invalid',
      remediation: expect.stringContaining('Nothing was stored'),
    })
    for (const problem of problems)
      expect(failure.evidence.problems).toContainEqual(expect.objectContaining({ file, ...problem }))
    const text = await scene.orrery('run', file)
    expect(text.stderr).toContain(`${file}:9:7`)
    expect(text.stderr).toContain('did you mean "function"?')
    expect(text.stderr).toContain('11 |         max: many')

    for (const path of ['/v1/runs', '/v1/definitions']) {
      const response = await fetch(scene.address + path, {
        method: 'POST',
        headers: { authorization: `Bearer ${scene.adminToken}`, 'content-type': 'application/json' },
        body: JSON.stringify({ manifest: MANIFEST }),
      })
      expect(response.status).toBe(400)
      const body = await response.json()
      expect(body).toMatchObject({ code: 'manifest.invalid', status: 400 })
      for (const problem of problems)
        expect(body).toHaveProperty('problems', expect.arrayContaining([expect.objectContaining(problem)]))
    }
    expect(await scene.db.query('select hash from definition')).toEqual([])
    expect(await scene.db.query('select id from run')).toEqual([])

    writeBelow(scene.dir, 'flow.yaml', MENDED)
    await scene.startWorker()
    const good = await scene.orrery('run', file, '--json')
    expect({ code: good.code, stderr: good.stderr }).toEqual({ code: 0, stderr: '' })
  })
})
