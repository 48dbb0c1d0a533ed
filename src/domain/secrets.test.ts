import { describe, expect, test } from 'vitest'
import { compileWorkflow, readManifest } from './manifest.ts'
import { foldName, spotsOf, unresolvedSecret } from './secrets.ts'

describe('where a secret is looked for', () => {
  const ref = { secret: 'git-hub', key: 'api.token' }
  const names = (namespace: string, dir: string | null) =>
    spotsOf(ref, { namespace, envPrefix: 'ORRERY_SECRET_', dir }).map(({ from, name }) => `${from} ${name}`)

  test('the store, then variables, then files; in the namespace default by the short spelling too', () => {
    expect(names('default', '/run/secrets')).toEqual([
      'store default/git-hub/api.token',
      'environment ORRERY_SECRET_DEFAULT_GIT_HUB_API_TOKEN',
      'environment ORRERY_SECRET_GIT_HUB_API_TOKEN',
      'file /run/secrets/default/git-hub/api.token',
      'file /run/secrets/git-hub/api.token',
    ])
  })

  test('in another namespace by the whole name alone: what is meant for one is never given to another', () => {
    expect(names('team-b', '/run/secrets')).toEqual([
      'store team-b/git-hub/api.token',
      'environment ORRERY_SECRET_TEAM_B_GIT_HUB_API_TOKEN',
      'file /run/secrets/team-b/git-hub/api.token',
    ])
  })

  test('in no file when there is no directory', () => {
    expect(names('default', null).some((name) => name.startsWith('file'))).toBe(false)
  })

  test('names are folded to upper case and underscores', () => {
    expect(foldName('acme/team-b.x y')).toBe('ACME_TEAM_B_X_Y')
  })
})

describe('a secret that is nowhere', () => {
  const what = {
    attempted: 'resolving it',
    namespace: 'staging',
    tried: [{ from: 'environment' as const, name: 'A_B', why: 'not set' }],
    hasDir: false,
    keys: [],
    secrets: ['github'],
  }

  test('is secret.not_found with every place and the nearest name', () => {
    expect(unresolvedSecret({ secret: 'githb', key: 'token' }, what)).toMatchObject({
      code: 'secret.not_found',
      evidence: {
        tried: ['variable A_B: not set'],
        nearest: 'github',
        files: expect.stringContaining('--secrets-dir'),
      },
      remediation: expect.stringMatching(/^Did you mean the secret github\? .*githb token=VALUE --namespace staging/),
    })
  })

  test('is secret.key_not_found when it has other keys, which are named', () => {
    expect(unresolvedSecret({ secret: 'github', key: 'tokn' }, { ...what, keys: ['token', 'user'] })).toMatchObject({
      code: 'secret.key_not_found',
      evidence: { keys: ['token', 'user'], nearest: 'token' },
    })
  })
})

const flow = (step: string): string => `apiVersion: orrery.dev/v1
kind: Workflow
metadata: { name: flow }
spec:
  modules: { m: ./m.ts }
  steps:
${step.replaceAll(/^/gm, '    ')}
`
const problemsOf = (step: string) => {
  const read = readManifest(flow(step), { file: 'flow.yaml' })
  return read.ok ? [] : read.problems.map(({ path, line, message, nearest }) => ({ path, line, message, nearest }))
}

describe('a step asks for secrets', () => {
  test('as variables of a command, beside plain ones', () => {
    const read = readManifest(
      flow('- name: a\n  command: "true"\n  env: { A: x, B: { secret: github, key: token } }'),
      {
        file: 'flow.yaml',
      },
    )
    expect(read.ok && read.definition.nodes[0]).toMatchObject({
      env: { A: 'x' },
      secrets: { B: { secret: 'github', key: 'token' } },
    })
  })

  test('as aliases of a function', () => {
    const read = readManifest(flow('- name: a\n  function: m.f\n  secrets: { gh: { secret: github, key: token } }'), {
      file: 'flow.yaml',
    })
    expect(read.ok && read.definition.nodes[0]).toMatchObject({ secrets: { gh: { secret: 'github', key: 'token' } } })
  })

  test('or for none, and then its definition is as it was', () => {
    const read = compileWorkflow({
      apiVersion: 'orrery.dev/v1',
      kind: 'Workflow',
      metadata: { name: 'flow' },
      spec: { steps: [{ name: 'a', command: 'true' }] },
    })
    expect(read.ok && read.definition.nodes[0]).not.toHaveProperty('secrets')
  })

  test('and a mistake is named with its place and what was meant', () => {
    expect(problemsOf('- name: a\n  command: "true"\n  env:\n    B: { secrt: github, key: token }')).toEqual([
      expect.objectContaining({ path: 'spec.steps[0].env.B.secret', message: 'is required' }),
      expect.objectContaining({ path: 'spec.steps[0].env.B.secrt', line: 10, nearest: 'secret' }),
    ])
    expect(problemsOf('- name: a\n  function: m.f\n  secrets: { gh: { secret: Git Hub, key: ../x } }')).toEqual([
      expect.objectContaining({
        path: 'spec.steps[0].secrets.gh.secret',
        message: expect.stringContaining('lower-case'),
      }),
      expect.objectContaining({
        path: 'spec.steps[0].secrets.gh.key',
        message: expect.stringContaining('key of letters'),
      }),
    ])
    expect(problemsOf('- name: a\n  command: "true"\n  env: { B: 5 }')).toEqual([
      expect.objectContaining({ path: 'spec.steps[0].env.B', message: 'must be a string; quote it' }),
    ])
    expect(problemsOf('- name: a\n  command: "true"\n  secrets: { gh: { secret: github, key: token } }')).toEqual([
      expect.objectContaining({ path: 'spec.steps[0].secrets', message: 'is for steps with a function only' }),
    ])
    expect(problemsOf('- name: a\n  function: m.f\n  secrets: { gh: github }')).toEqual([
      expect.objectContaining({ path: 'spec.steps[0].secrets.gh', message: expect.stringContaining('{ secret:') }),
    ])
  })

  test('and for no more than the limit', () => {
    const many = Array.from({ length: 101 }, (_, i) => `A${i}: { secret: s, key: k }`).join(', ')
    expect(problemsOf(`- name: a\n  function: m.f\n  secrets: { ${many} }`)).toEqual([
      expect.objectContaining({ message: 'names 101 secrets; the limit is 100' }),
    ])
  })

  test('and an expression reads none', () => {
    expect(problemsOf('- name: a\n  command: "echo ${{ secrets.github.token }}"')).toEqual([
      expect.objectContaining({ path: 'spec.steps[0].command', message: expect.stringContaining('secrets') }),
    ])
  })
})
