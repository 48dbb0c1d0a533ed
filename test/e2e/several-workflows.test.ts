// A file of several workflows with approvals in all of them, approved beforehand.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectNoProcessLeft, runOrrery } from '../support/processes.ts'

const FLOWS = `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: release }
spec:
  steps:
    - { name: sure, approval: Release it? }
    - name: parts
      needs: [sure]
      forEach: [a, b]
      workflow: part
    - { name: later, needs: [parts], approval: And tell everybody? }
---
apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: part }
spec:
  steps:
    - { name: sure, approval: This part too? }
    - { name: below, needs: [sure], workflow: leaf }
---
apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: leaf }
spec:
  steps:
    - { name: sure, approval: Even that? }
    - { name: work, needs: [sure], command: 'true' }
`

describe('orrery run --yes of a file of several workflows', () => {
  let home = ''
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'orrery-e2e-'))
    await writeFile(join(home, 'flows.yaml'), FLOWS)
  })
  afterAll(async () => {
    await expectNoProcessLeft()
    await rm(home, { recursive: true, force: true })
  })

  test('approves at once, later and in runs below, each once, from a file and from standard input', async () => {
    for (const [file, more] of [
      ['flows.yaml', {}],
      ['-', { stdin: FLOWS }],
    ] as const) {
      const ran = await runOrrery(['run', file, '--yes', '--data-dir', join(home, 'data')], { cwd: home, ...more })
      expect(ran).toMatchObject({ code: 0, stderr: '' })
      const approved = ran.stdout.split('\n').flatMap((line) => /is approved: (.*)$/.exec(line)?.[1] ?? [])
      expect(approved.sort()).toEqual([
        'And tell everybody?',
        'Even that?',
        'Even that?',
        'Release it?',
        'This part too?',
        'This part too?',
      ])
    }
  })

  test('one of them alone', async () => {
    const ran = await runOrrery(
      ['run', 'flows.yaml', '--workflow', 'leaf', '--yes', '--json', '--data-dir', join(home, 'data')],
      { cwd: home },
    )
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(ran.stdout).toContain('"state":"approved"')
  })
})
