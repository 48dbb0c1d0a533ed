import { beforeEach, describe, expect, test } from 'vitest'
import { createApi } from '../../api/create-api.ts'
import { silentLog } from '../../base/log.ts'
import { Secret } from '../../base/secret.ts'
import { createClient } from '../../client/create-client.ts'
import { handlerTransport } from '../../client/handler-transport.ts'
import { Failure } from '../../domain/failure.ts'
import { type EngineRig, useRig } from '../../engine/testing/rig.ts'
import { NO_SOURCES } from '../../engine/secret-sources.ts'
import { KeyRing, SealingKey } from '../../store/index.ts'
import { putToken } from '../../store/tokens/tokens.ts'
import { CliHarness, settle } from '../testing/cli-harness.ts'

const flow = (name: string, more: { command?: string; labels?: string; lifecycle?: string; namespace?: string } = {}) =>
  `apiVersion: orrery.dev/v1
kind: Workflow
metadata:
  name: ${name}
${more.namespace ? `  namespace: ${more.namespace}\n` : ''}${more.labels ? `  labels: { ${more.labels} }\n` : ''}spec:
${more.lifecycle ? `  lifecycle: ${more.lifecycle}\n` : ''}  steps:
    - name: first
      command: ${more.command ?? 'echo one'}
`
const secret = (value: string) =>
  `apiVersion: orrery.dev/v1\nkind: Secret\nmetadata: { name: db }\nspec: { data: { password: ${value} } }\n`

describe('commands for resources, against a real server', () => {
  let rig: EngineRig
  let cli: CliHarness
  let client: ReturnType<typeof createClient>
  useRig((given) => {
    rig = given
  })
  beforeEach(async () => {
    cli = new CliHarness()
    const key = SealingKey.generate().reveal()
    const ring = new KeyRing({ name: 'keys', read: () => Promise.resolve(key), prepend: null })
    const engine = rig.engine({ secrets: { ring, sources: NO_SOURCES, remember: () => {} } })
    const metrics = { contentType: 'text/plain', metrics: () => '' }
    const api = createApi({ engine, clock: rig.clock, ids: rig.ids, log: silentLog, version: '0', metrics })
    await putToken(rig.db, { id: 'tok_admin', secret: 'admin', role: 'admin', name: 't', namespaces: null })
    client = createClient({ transport: handlerTransport((r, env) => api.fetch(r, env)), token: new Secret('admin') })
    fresh()
  })

  /** Another start of the program, with the same files. */
  function fresh(): void {
    const { files, editor } = cli
    cli = new CliHarness()
    cli.files = files
    cli.editor = editor
    // The words of the server are real; what follows a run is scripted.
    cli.client.resources = client.resources
    cli.client.createRun = (...args: unknown[]) =>
      client.createRun(...(args as Parameters<typeof client.createRun>)) as never
    cli.client.getRun = (id: string) => client.getRun(id)
    cli.client.listRuns = (...args: unknown[]) =>
      client.listRuns(...(args as Parameters<typeof client.listRuns>)) as never
  }
  /** Exit code, and what was written, of one command line. */
  const run = async (...argv: string[]) => {
    fresh()
    const exit = await cli.run(...argv)
    return { exit, out: cli.out, err: cli.err }
  }
  const apply = async (text: string) => {
    cli.files['/srv/given.yaml'] = text
    return run('apply', '-f', 'given.yaml')
  }

  test('apply says what became of each resource, from files and directories', async () => {
    cli.files['/srv/all/a.yaml'] = `${flow('one')}---\n${secret('x')}`
    cli.files['/srv/all/b.json'] = JSON.stringify({
      apiVersion: 'orrery.dev/v1',
      kind: 'Workflow',
      metadata: { name: 'two', namespace: 'ops' },
      spec: { steps: [{ name: 'a', command: 'true' }] },
    })
    cli.files['/srv/all/notes.txt'] = 'no manifest'
    cli.files['/srv/all/below/c.yml'] = flow('three')
    expect(await run('apply', '-f', 'all', '--dry-run')).toMatchObject({
      exit: 0,
      out: expect.stringContaining('workflow/one created (version 1) (dry run: nothing was stored)'),
    })
    expect(await run('apply', '-f', 'all')).toEqual({
      exit: 0,
      err: '',
      out: 'workflow/one created (version 1)\nsecret/db created\nworkflow/two in ops created (version 1)\n',
    })
    expect((await run('apply', '-f', 'all', '--recursive')).out).toBe(
      'workflow/one unchanged\nsecret/db unchanged\nworkflow/two in ops unchanged\nworkflow/three created (version 1)\n',
    )
    expect((await apply(flow('one', { command: 'echo two' }))).out).toBe('workflow/one configured (version 2)\n')
    expect(JSON.parse((await run('apply', '-f', 'given.yaml', '--json')).out)).toMatchObject({
      resources: [{ outcome: 'unchanged' }],
    })
    expect((await run('apply', '-f', 'given.yaml', '-o', 'yaml')).out).toContain('outcome: unchanged')
    fresh()
    cli.stdinText = flow('four')
    expect(await cli.run('apply', '-f', '-', '-n', 'ops')).toBe(0)
    expect(cli.out).toBe('workflow/four in ops created (version 1)\n')
  })

  test('validate and apply list every problem of every file with its line, and store nothing', async () => {
    cli.files['/srv/all/a.yaml'] = flow('one').replace('steps', 'stepz')
    cli.files['/srv/all/b.yaml'] = flow('Two')
    for (const argv of [
      ['validate', 'all'],
      ['apply', '-f', 'all'],
    ]) {
      const { exit, err, out } = await run(...argv)
      expect({ exit, out }).toEqual({ exit: 65, out: '' })
      expect(err).toContain('reading 2 files: 3 problems')
      expect(err).toMatch(
        /all\/a\.yaml:6:3 {2}spec\.stepz\n.*did you mean "steps"\?\)\n {4}6 \| {3}stepz:\n {6}\| {3}\^/,
      )
      expect(err).toContain('all/b.yaml:4:9  metadata.name')
      expect(cli.connects).toEqual([])
    }
    cli.files['/srv/good.yaml'] = `${flow('one')}---\n${secret('x')}`
    expect(await run('validate', 'good.yaml')).toEqual({
      exit: 0,
      err: '',
      out: 'workflow/one valid\nsecret/db valid\n',
    })
    expect(JSON.parse((await run('validate', 'good.yaml', '--json')).out)).toMatchObject({
      valid: true,
      resources: [
        { name: 'one', line: 1 },
        { name: 'db', line: 10 },
      ],
    })
    expect((await run('get', 'workflows')).err).toContain('No workflows in namespace default.')
    expect(await run('validate', 'missing.yaml')).toMatchObject({
      exit: 66,
      err: expect.stringContaining('file.unreadable'),
    })
    cli.files['/srv/none/x.txt'] = ''
    expect((await run('apply', '-f', 'none')).err).toContain('there are no .yaml, .yml or .json files')
    expect(await run('apply')).toMatchObject({ exit: 2, err: expect.stringContaining('apply needs a file') })
  })

  test('get prints tables, wide tables, JSON and YAML that can be applied', async () => {
    await apply(
      `${flow('one', { labels: 'team: core' })}---\n${flow('two', { lifecycle: 'draft' })}---\n${flow('three', { namespace: 'ops' })}`,
    )
    expect((await run('get', 'workflows')).out).toMatch(
      /^NAME {2}LIFECYCLE {2}VERSION {2}STEPS {2}.*AGE\none {3}active .* 1 .* 1 .*\ntwo {3}draft /,
    )
    expect((await run('get', 'wf', '-A')).out).toMatch(
      /NAMESPACE {2}NAME.*\ndefault {4}one.*\ndefault {4}two.*\nops {8}three/,
    )
    expect((await run('get', 'workflow', '-n', 'ops')).out).toContain('three')
    expect((await run('get', 'workflows', '-l', 'team=core')).out).not.toContain('two')
    expect((await run('get', 'workflows', '-o', 'wide')).out).toMatch(/LABELS\none .*team=core/)
    expect(JSON.parse((await run('get', 'wf/one', '-o', 'json')).out)).toMatchObject({
      kind: 'Workflow',
      metadata: { name: 'one' },
    })
    expect(JSON.parse((await run('get', 'workflows', '--json')).out)).toMatchObject({ kind: 'List', items: [{}, {}] })
    const { out } = await run('get', 'workflows', '-o', 'yaml')
    expect((await apply(out)).out).toBe('workflow/one unchanged\nworkflow/two unchanged\n')
    expect((await run('get', 'workflows', '-l', 'nobody=has')).err).toContain('No workflows fit this selector.')
    expect((await run('get', 'secrets', '-A')).err).toContain('No secrets yet.')

    expect(await run('get', 'wrkflows')).toMatchObject({
      exit: 2,
      err: expect.stringContaining('Did you mean workflows?'),
    })
    expect(await run('get', 'wf', 'oen')).toMatchObject({ exit: 2, err: expect.stringContaining('resource.not_found') })
    expect(cli.err).toContain('nearest  one')
    expect(await run('get', 'wf', '-o', 'xml')).toMatchObject({
      exit: 2,
      err: expect.stringContaining('accepted  table, wide, json, yaml, name'),
    })
    expect((await run('get', 'wf', '-l', 'a<b')).err).toContain('is no requirement')
    expect((await run('get', 'wf', '-A', '-n', 'ops')).err).toContain('cannot be used together')
    expect((await run('get', 'wf', 'one', '-l', 'a=b')).err).toContain('cannot be used together')
  })

  test('get --watch prints what there is and what changes, until it is interrupted', async () => {
    await apply(flow('one'))
    fresh()
    const watching = cli.run('get', 'workflows', '--watch')
    const watcher = cli
    await settle(() => watcher.out.includes('added'))
    await client.resources.apply(flow('one', { command: 'echo two' }))
    await settle(() => watcher.out.includes('modified'))
    await client.resources.remove({ kind: 'Workflow', namespace: 'default', name: 'one' })
    await settle(() => watcher.out.includes('deleted'))
    watcher.signal()
    expect(await watching).toBe(0)
    expect(watcher.out).toMatch(/^EVENT {5}NAME .*\nadded {5}one .*\nmodified {2}one .*\ndeleted {3}one/)
    expect(watcher.listeners).toBe(0)
  })

  test('describe shows conditions, versions, runs and the spec', async () => {
    await apply(flow('one', { labels: 'team: core' }))
    await apply(flow('one', { labels: 'team: core', command: 'echo two' }))
    await client.createRun({ workflowRef: 'one@1' })
    const { exit, out } = await run('describe', 'workflow', 'one')
    expect(exit).toBe(0)
    for (const part of [
      'team=core',
      'ready=true  accepted',
      'VERSION  LIFECYCLE',
      '2        active',
      '1        active',
      'Latest runs',
      'run_',
      'command: echo two',
    ])
      expect(out).toContain(part)
    expect(JSON.parse((await run('describe', 'wf/one', '--json')).out)).toMatchObject({
      versions: [{ version: 2 }, { version: 1 }],
      runs: [{ workflow: 'one' }],
    })
    await apply(secret('hunter2'))
    const hidden = await run('describe', 'secret', 'db')
    expect(hidden.out).toContain('password: (hidden)')
    expect(hidden.out).not.toContain('hunter2')
    expect((await run('describe', 'wf')).err).toContain('describe shows one resource')
  })

  test('diff shows what apply would change and ends with 1; with 0 when nothing would', async () => {
    await apply(`${flow('one')}---\n${secret('old')}`)
    expect(await run('diff', '-f', 'given.yaml')).toEqual({ exit: 0, out: '', err: '' })
    cli.files['/srv/given.yaml'] = `${flow('one', { command: 'echo two' })}---\n${flow('new')}---\n${secret('hunter2')}`
    const { exit, out } = await run('diff', '-f', 'given.yaml')
    expect(exit).toBe(1)
    expect(out).toContain('--- workflow/one on the server\n+++ workflow/one in given.yaml\n')
    expect(out).toContain('-      command: echo one\n+      command: echo two\n')
    expect(out).toContain('--- workflow/new (does not exist)')
    expect(out).toContain('secret/db\n  values differ; they are not shown')
    expect(out).not.toContain('hunter2')
    expect(JSON.parse((await run('diff', '-f', 'given.yaml', '--json')).out)).toMatchObject({
      differences: [{ name: 'one' }, { name: 'new', before: null }, { name: 'db' }],
    })
    expect((await client.resources.list('Workflow')).items).toHaveLength(1)
  })

  test('delete removes by name and by file, and says what was not there', async () => {
    await apply(`${flow('one')}---\n${flow('two')}`)
    expect((await run('delete', 'wf', 'one', '--dry-run')).out).toContain('nothing was deleted')
    expect(await run('delete', 'wf', 'one')).toEqual({ exit: 0, out: 'workflow/one deleted\n', err: '' })
    expect(await run('delete', 'wf', 'one')).toMatchObject({
      exit: 2,
      err: expect.stringContaining('resource.not_found'),
    })
    expect((await run('delete', '-f', 'given.yaml', '--ignore-not-found')).out).toBe(
      'workflow/one absent\nworkflow/two deleted\n',
    )
    expect(JSON.parse((await run('delete', 'wf/one', '--ignore-not-found', '--json')).out)).toMatchObject({
      resources: [{ outcome: 'absent' }],
    })
    for (const argv of [['delete'], ['delete', 'wf'], ['delete', 'wf', 'one', '-f', 'given.yaml']])
      expect(await run(...argv)).toMatchObject({ exit: 2, err: expect.stringContaining('request.invalid') })
  })

  describe('edit', () => {
    beforeEach(() => apply(flow('one')))
    const command = async () =>
      JSON.stringify((await client.resources.get({ kind: 'Workflow', namespace: 'default', name: 'one' })).spec)

    test('stores what was saved', async () => {
      cli.editor = (text) => text.replace('echo one', 'echo two')
      expect(await run('edit', 'workflow', 'one')).toEqual({ exit: 0, out: 'workflow/one edited\n', err: '' })
      expect(await command()).toContain('echo two')
    })

    test('leaves the resource as it is when nothing was changed, or everything was taken out', async () => {
      cli.editor = (text) => text
      expect((await run('edit', 'wf/one')).out).toBe('workflow/one unchanged\n')
      cli.editor = () => ''
      expect((await run('edit', 'wf/one')).out).toBe('workflow/one unchanged\n')
    })

    test('opens again with the problem on top, at the line where it is now', async () => {
      const edits = [
        (text: string) => text.replace('command', 'comand'),
        (text: string) => text.replace('comand:', 'command:').replace('echo one', 'echo two'),
      ]
      cli.editor = (text) => (edits.shift() ?? ((same) => same))(text)
      expect(await run('edit', 'wf', 'one')).toMatchObject({ exit: 0, out: 'workflow/one edited\n' })
      const second = cli.edits[1] ?? ''
      const [, line] = /line (\d+), column \d+: spec\.steps\[0\]\.comand .*did you mean command\?/.exec(second) ?? []
      expect(second.split('\n')[Number(line) - 1]).toContain('comand: echo one')
      expect(await command()).toContain('echo two')
    })

    test('opens again when somebody else was first, with what they changed on top', async () => {
      const edits = [
        async (text: string) => {
          await client.resources.apply(flow('one', { command: 'echo theirs' }))
          return text.replace('name: first', 'name: mine')
        },
        (text: string) => text.replace(/^( +command:) echo one/m, '$1 echo both'),
      ]
      cli.editor = (text) => (edits.shift() ?? ((same: string) => same))(text)
      expect(await run('edit', 'wf', 'one')).toMatchObject({ exit: 0, out: 'workflow/one edited\n' })
      expect(cli.edits[1]).toContain('somebody else changed it meanwhile')
      expect(cli.edits[1]).toMatch(/#\| -\s+command: echo one\n#\| \+\s+command: echo theirs/)
      expect(await command()).toContain('"name":"mine","command":"echo both"')
    })

    test('gives up with the problem when the text is left as it was refused, and keeps the text', async () => {
      const edits = [(text: string) => text.replace('command', 'comand')]
      cli.editor = (text) => (edits.shift() ?? ((same) => same))(text)
      const { exit, err } = await run('edit', 'wf', 'one')
      expect(exit).toBe(65)
      expect(err).toContain('What was edited is kept in /data/edit.yaml')
      expect(err).toContain('manifest.invalid')
    })

    test('an editor that fails stores nothing', async () => {
      cli.editor = () => Promise.reject(new Failure('editor.failed', 'editing one.yaml with vi'))
      expect(await run('edit', 'wf', 'one')).toMatchObject({ exit: 1, err: expect.stringContaining('editor.failed') })
    })
  })

  describe('run of a stored workflow', () => {
    test('starts the latest active version, or the one that is named', async () => {
      await apply(flow('one'))
      await apply(flow('one', { command: 'echo two', lifecycle: 'draft' }))
      const started = await run('run', 'one', '--detach', '--label', 'by=me')
      expect(started).toMatchObject({ exit: 0, out: expect.stringMatching(/^run_/) })
      const { labels, definition } = await client.getRun(started.out.trim())
      expect(labels).toEqual({ by: 'me' })
      const { definition: first } = await client.resources.getVersion(
        { kind: 'Workflow', namespace: 'default', name: 'one' },
        1,
      )
      expect(definition).toBe(first)
      expect(await run('run', 'one@2', '--detach')).toMatchObject({
        exit: 1,
        err: expect.stringContaining('workflow.inactive'),
      })
      expect(await run('run', 'oen', '--detach')).toMatchObject({
        exit: 2,
        err: expect.stringContaining('Did you mean one?'),
      })
      expect((await run('run', 'one', '-n', 'ops', '--detach')).err).toContain(
        'There is a workflow of this name in namespace default',
      )
      expect((await run('run', 'one', '--store', 'embedded')).err).toContain('one is no file')
    })

    test('warns of a deprecated one', async () => {
      await apply(flow('one', { lifecycle: 'deprecated' }))
      expect((await run('run', 'one', '--detach')).err).toContain(
        'warning: workflow default/one is deprecated; version 1 was started',
      )
    })

    test('a file of that name is taken before it, and without a server both meanings are told', async () => {
      cli.files['/srv/one'] = 'x: 1'
      expect(await run('run', 'one', '--detach')).toMatchObject({
        exit: 65,
        err: expect.stringContaining('manifest.invalid'),
      })
      expect((await run('run', 'one', '-n', 'ops')).err).toContain('--namespace is for workflows that are stored')
      fresh()
      cli.client.resources = {
        ...client.resources,
        getVersion: () => Promise.reject(new Failure('client.server_unreachable', 'GET')),
      }
      expect(await cli.run('run', 'two')).toBe(69)
      expect(cli.err).toContain('two is no file here')
    })
  })
})
