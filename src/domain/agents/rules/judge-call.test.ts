import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../../../base/json.ts'
import { policySpecSchema } from '../../kinds/policy.ts'
import { roleSpecSchema } from '../../kinds/role.ts'
import type { AskedCall, OwnRules, RunFacts, Verdict } from '../verdict.ts'
import { judgeCall } from './judge-call.ts'
import { readPolicyRow, readRoleRow, type RuleSet, ruleSetOf, unreadableRules } from './rule-set.ts'

const rowOf = (kind: string, name: string, spec: JsonObject, namespace = 'default') => ({
  kind,
  namespace,
  name,
  uid: `uid-${name}`,
  version: 7,
  spec,
})
/** Policies and roles by name. */
const rulesOf = (
  policies: Record<string, JsonObject>,
  roles: Record<string, JsonObject> = {},
  namespace = 'default',
): RuleSet =>
  ruleSetOf(
    namespace,
    Object.entries(policies).map(([name, spec]) => readPolicyRow(rowOf('Policy', name, spec, namespace))),
    Object.entries(roles).map(([name, spec]) => readRoleRow(rowOf('Role', name, spec, namespace))),
  )

const OWN: OwnRules = {
  roles: [],
  approval: 'by-rule',
  approvers: null,
  approvalExpiresMs: null,
  isOffered: true,
  given: null,
}
const RUN: RunFacts = { labels: {}, workflows: ['report'], depth: 0, runsBelow: 0 }
const callOf = ({
  own,
  ...more
}: Partial<Omit<AskedCall, 'own'>> & { own?: Partial<OwnRules> | null } = {}): AskedCall => ({
  namespace: 'default',
  workflow: 'report',
  runId: 'run_1',
  agent: 'writer',
  tool: 'slack',
  operation: 'write',
  input: {},
  target: null,
  isUnconfined: false,
  own: own === null ? null : { ...OWN, ...own },
  ...more,
})
const verdictOf = (rules: RuleSet, asked: AskedCall, run: Partial<RunFacts> = {}): Verdict =>
  judgeCall(rules, asked, { ...RUN, ...run }).verdict
const short = (verdict: Verdict): string => `${verdict.verdict} by ${verdict.rule}`

const DENIES = { tools: { denied: [{ tools: ['slack'] }] } }
const ASKS = { tools: { approval: [{ tools: ['slack'] }] } }
const ALLOWS = { tools: { allowed: [{ tools: ['slack'] }] } }
const ROLE_DENIES = { rules: [{ tools: ['slack'], verdict: 'deny' }] }
const ROLE_ASKS = { rules: [{ tools: ['slack'], verdict: 'approval' }] }
const ROLE_ALLOWS = { rules: [{ tools: ['slack'], operations: ['write'], verdict: 'allow' }] }
const PERMITS = { permissions: [{ tools: ['slack'], operations: ['write'] }] }
const ELSE = { permissions: [{ tools: ['mail'], operations: ['write'] }] }

describe('precedence: deny beats approval beats allow; policy before role before default names who decided', () => {
  test.for<
    [policies: Record<string, JsonObject>, roles: Record<string, JsonObject>, own: Partial<OwnRules>, verdict: string]
  >([
    // Nothing but the agent.
    [{}, {}, {}, 'approval by default'],
    [{}, {}, { approval: 'always' }, 'approval by default'],
    // Roles alone.
    [{}, { r: PERMITS }, { roles: ['r'] }, 'allow by role/r'],
    [{}, { r: ROLE_ALLOWS }, { roles: ['r'] }, 'allow by role/r'],
    [{}, { r: ROLE_ASKS }, { roles: ['r'] }, 'approval by role/r'],
    [{}, { r: ROLE_DENIES }, { roles: ['r'] }, 'deny by role/r'],
    [{}, { r: ELSE }, { roles: ['r'] }, 'deny by role/r'],
    [{}, { r: ELSE, q: PERMITS }, { roles: ['r', 'q'] }, 'allow by role/q'],
    [{}, { r: PERMITS, q: ROLE_ASKS }, { roles: ['r', 'q'] }, 'approval by role/q'],
    [{}, { r: PERMITS, q: ROLE_DENIES }, { roles: ['r', 'q'] }, 'deny by role/q'],
    [{}, { r: PERMITS, q: ROLE_DENIES }, { roles: ['r'] }, 'allow by role/r'],
    [{}, { r: PERMITS }, { roles: ['r', 'gone'] }, 'deny by role/gone'],
    [{}, { r: { ...PERMITS, ...ROLE_DENIES } }, { roles: ['r'] }, 'deny by role/r'],
    [{}, { r: PERMITS }, { roles: ['r'], approval: 'always' }, 'approval by agent/writer'],
    [{}, { r: ROLE_ASKS }, { roles: ['r'], approval: 'always' }, 'approval by role/r'],
    [{}, { r: ROLE_DENIES }, { roles: ['r'], approval: 'always' }, 'deny by role/r'],
    // A policy gives nothing; it only takes.
    [{ p: ALLOWS }, {}, {}, 'approval by default'],
    [{ p: ALLOWS }, { r: ELSE }, { roles: ['r'] }, 'deny by role/r'],
    [{ p: ALLOWS }, { r: PERMITS }, { roles: ['r'] }, 'allow by role/r'],
    [{ p: DENIES }, { r: PERMITS }, { roles: ['r'] }, 'deny by policy/p'],
    [{ p: DENIES }, { r: ROLE_DENIES }, { roles: ['r'] }, 'deny by policy/p'],
    [{ p: ASKS }, { r: PERMITS }, { roles: ['r'] }, 'approval by policy/p'],
    [{ p: ASKS }, { r: ROLE_ASKS }, { roles: ['r'] }, 'approval by policy/p'],
    [{ p: ASKS }, { r: ROLE_DENIES }, { roles: ['r'] }, 'deny by role/r'],
    [{ p: ASKS }, { r: ELSE }, { roles: ['r'] }, 'deny by role/r'],
    [{ p: ASKS, q: DENIES }, { r: PERMITS }, { roles: ['r'] }, 'deny by policy/q'],
    [{ p: ASKS, q: ALLOWS }, { r: PERMITS }, { roles: ['r'] }, 'approval by policy/p'],
    [{ p: { tools: { allowed: [{ tools: ['mail'] }] } } }, { r: PERMITS }, { roles: ['r'] }, 'deny by policy/p'],
    [{ p: { tools: { requireRoles: true } } }, {}, {}, 'deny by policy/p'],
    [{ p: { tools: { requireRoles: true } } }, { r: PERMITS }, { roles: ['r'] }, 'allow by role/r'],
  ])('%j %j %j: %s', ([policies, roles, own, wanted]) => {
    expect(short(verdictOf(rulesOf(policies, roles), callOf({ own })))).toBe(wanted)
  })
})

describe('without any rule', () => {
  test.for<[string, Partial<AskedCall>, string]>([
    ['an agent may read', { operation: 'read' }, 'allow by default'],
    ['a person decides what it writes', { operation: 'write' }, 'approval by default'],
    ['a person decides what it deletes', { operation: 'delete' }, 'approval by default'],
    ['a person decides what it administers', { operation: 'admin' }, 'approval by default'],
  ])('%s', ([, asked, wanted]) => {
    expect(short(verdictOf(rulesOf({}), callOf(asked as Partial<Omit<AskedCall, 'own'>>)))).toBe(wanted)
  })

  test('a step may call a tool by itself, as its author wrote it; policies hold for it', () => {
    const step = callOf({ agent: null, own: null, operation: 'admin' })
    expect(short(verdictOf(rulesOf({}), step))).toBe('allow by default')
    expect(short(verdictOf(rulesOf({ p: DENIES }), step))).toBe('deny by policy/p')
  })

  test('a tool that the agent was not offered is denied, and so is an agent that the workflow does not have', () => {
    const call = callOf({ operation: 'read', own: { isOffered: false } })
    expect(verdictOf(rulesOf({}), call)).toMatchObject({
      code: 'tool.permission_denied',
      reason: 'agent writer is offered no tool slack',
    })
    expect(verdictOf(rulesOf({}), { ...callOf({ operation: 'read' }), own: null })).toMatchObject({
      code: 'tool.permission_denied',
      reason: 'the workflow has no agent writer',
    })
  })

  test('what the spec of the agent itself gives is allowed: its memories, delegates and handoffs', () => {
    expect(short(verdictOf(rulesOf({}), callOf({ tool: 'notes.write', own: { given: 'memories' } })))).toBe(
      'allow by agent/writer',
    )
    const limited = callOf({ tool: 'notes.write', own: { given: 'memories', roles: ['r'] } })
    expect(short(verdictOf(rulesOf({}, { r: ELSE }), limited))).toBe('allow by agent/writer')
    expect(short(verdictOf(rulesOf({}, { r: { rules: [{ tools: ['notes.*'], verdict: 'deny' }] } }), limited))).toBe(
      'deny by role/r',
    )
  })
})

describe('a rule is about', () => {
  test('tools by pattern and classes of operations, at each call: also those that an MCP server added later', () => {
    const rules = rulesOf({ p: { tools: { denied: [{ tools: ['github.*'], operations: ['delete', 'admin'] }] } } })
    const github = (tool: string, operation: AskedCall['operation']) =>
      verdictOf(rules, callOf({ tool, operation, own: { given: 'tests' } })).verdict
    expect(github('github.added_today', 'delete')).toBe('deny')
    expect(github('github.added_today', 'write')).toBe('allow')
    expect(github('gitlab.x', 'delete')).toBe('allow')
  })

  test('whom its selector means', () => {
    const denied = (appliesTo: JsonObject, asked: Partial<Omit<AskedCall, 'own'>> = {}, run: Partial<RunFacts> = {}) =>
      verdictOf(rulesOf({ p: { appliesTo, ...DENIES } }), callOf({ ...asked, own: { given: 'tests' } }), run)
        .verdict === 'deny'
    expect(denied({ workflows: ['rep*'] })).toBe(true)
    expect(denied({ workflows: ['other'] })).toBe(false)
    expect(denied({ workflows: ['top'] }, {}, { workflows: ['top', 'middle', 'report'] })).toBe(true)
    expect(denied({ agents: ['writer', 'x'] })).toBe(true)
    expect(denied({ agents: ['reader'] })).toBe(false)
    expect(denied({ labels: 'tier=prod' }, {}, { labels: { tier: 'prod' } })).toBe(true)
    expect(denied({ labels: 'tier=prod' }, {}, { labels: { tier: 'test' } })).toBe(false)
    expect(denied({ workflows: ['rep*'], agents: ['reader'] })).toBe(false)
    const step = callOf({ agent: null, own: null })
    expect(verdictOf(rulesOf({ p: { appliesTo: { agents: ['*'] }, ...DENIES } }), step).verdict).toBe('allow')
  })

  test('other namespaces when it stands in the namespace default and names them; never for another organisation', () => {
    const at = (policyIn: string, namespaces: string[] | null, namespace: string) => {
      const spec = { ...(namespaces ? { appliesTo: { namespaces } } : {}), ...DENIES }
      const policy = readPolicyRow(rowOf('Policy', 'p', spec, policyIn))
      return verdictOf(ruleSetOf(namespace, [policy], []), callOf({ namespace, own: { given: 'tests' } })).verdict
    }
    expect(at('default', ['team-*'], 'team-a')).toBe('deny')
    expect(at('default', ['team-*'], 'default')).toBe('allow')
    expect(at('default', null, 'team-a')).toBe('allow')
    expect(at('team-b', ['team-*'], 'team-a')).toBe('allow')
    expect(at('default', ['*'], 'acme/team-a')).toBe('allow')
    expect(at('acme/default', ['*'], 'acme/team-a')).toBe('deny')
  })
})

describe('giving work away', () => {
  const to = (name: string, of: 'agent' | 'workflow' | 'handoff' = 'agent') =>
    callOf({ tool: `ask_${name}`, target: { of, name }, own: { given: 'delegates' } })
  const rules = rulesOf({ p: { delegation: { to: ['res*'], maxDepth: 2, maxRuns: 3 } } })

  test('is allowed to those named, so deep and so often', () => {
    expect(short(verdictOf(rules, to('researcher')))).toBe('allow by agent/writer')
    expect(verdictOf(rules, to('billing'))).toMatchObject({
      code: 'policy.routing_blocked',
      rule: 'policy/p',
      reason: 'policy/p gives no work to the agent billing; it lets pass res*',
      remediation: expect.stringContaining('spec.delegation.to of policy/p'),
    })
    expect(verdictOf(rules, to('researcher'), { depth: 1 }).verdict).toBe('allow')
    expect(verdictOf(rules, to('researcher'), { depth: 2 })).toMatchObject({
      code: 'policy.routing_blocked',
      reason: expect.stringContaining('depth 3'),
    })
    expect(verdictOf(rules, to('researcher'), { runsBelow: 2 }).verdict).toBe('allow')
    expect(verdictOf(rules, to('researcher'), { runsBelow: 3 })).toMatchObject({
      code: 'policy.routing_blocked',
      reason: expect.stringContaining('3 runs below'),
    })
  })

  test('by handing over begins no run, and is only asked to whom', () => {
    expect(verdictOf(rules, to('researcher', 'handoff'), { depth: 8, runsBelow: 99 }).verdict).toBe('allow')
    expect(verdictOf(rules, to('billing', 'handoff'))).toMatchObject({ code: 'policy.routing_blocked' })
  })
})

describe('a program that makes connections of its own', () => {
  const program = callOf({ isUnconfined: true, own: { given: 'tests' } })

  test('is denied where a policy names the hosts that may be called, unless it says otherwise', () => {
    expect(verdictOf(rulesOf({ p: { egress: { hosts: ['api.example.com'] } } }), program)).toMatchObject({
      verdict: 'deny',
      rule: 'policy/p',
      remediation: expect.stringContaining('sandbox'),
    })
    const lenient = rulesOf({ p: { egress: { hosts: ['api.example.com'], unconfined: 'allow' } } })
    expect(verdictOf(lenient, program).verdict).toBe('allow')
    expect(verdictOf(rulesOf({ p: { maxTokens: 5 } }), program).verdict).toBe('allow')
  })
})

describe('approvals of several rules', () => {
  const asks = (more: JsonObject) => ({ tools: { approval: [{ tools: ['*'], ...more }] } })

  test('ask for somebody whom all of them name, and for the shortest time', () => {
    const rules = rulesOf({
      a: asks({ approvers: ['ann', 'lead'], expires: '2h' }),
      b: asks({ approvers: ['lead'], expires: '1h' }),
      c: asks({}),
    })
    expect(verdictOf(rules, callOf())).toEqual({
      verdict: 'approval',
      rule: 'policy/a',
      approvers: ['lead'],
      expiresMs: 3_600_000,
    })
  })

  test('say why each of them asks', () => {
    const rules = rulesOf({ a: asks({ reason: 'customers read it' }), b: asks({}), c: asks({ reason: 'it is loud' }) })
    expect(verdictOf(rules, callOf())).toMatchObject({
      rule: 'policy/a',
      reason: 'customers read it (policy/a); it is loud (policy/c)',
    })
    expect(
      verdictOf(
        rulesOf({ a: asks({ reason: 'customers read it' }) }, { r: PERMITS }),
        callOf({ own: { roles: ['r'] } }),
      ),
    ).toMatchObject({
      reason: 'customers read it',
    })
    expect(verdictOf(rulesOf({ a: asks({}) }, { r: PERMITS }), callOf({ own: { roles: ['r'] } }))).not.toHaveProperty(
      'reason',
    )
    expect(verdictOf(rulesOf({}), callOf({ operation: 'write' }))).toMatchObject({
      rule: 'default',
      reason: expect.stringContaining('has no role'),
    })
  })

  test('that nobody could give for all of them deny', () => {
    const rules = rulesOf({ a: asks({ approvers: ['ann'] }), b: asks({ approvers: ['bob'] }) })
    expect(verdictOf(rules, callOf())).toMatchObject({
      verdict: 'deny',
      reason: expect.stringContaining('policy/a and policy/b'),
    })
  })

  test('are those of the agent when it wants all of its calls decided', () => {
    const own = { roles: ['r'], approval: 'always' as const, approvers: ['ann'], approvalExpiresMs: 5_000 }
    expect(verdictOf(rulesOf({}, { r: PERMITS }), callOf({ own }))).toEqual({
      verdict: 'approval',
      rule: 'agent/writer',
      reason: 'its spec has every call wait for a person',
      approvers: ['ann'],
      expiresMs: 5_000,
    })
  })
})

describe('a denial', () => {
  test('says which rule, what was asked, why, and what would let it pass', () => {
    const reason = 'slack is read by customers'
    expect(verdictOf(rulesOf({ p: { tools: { denied: [{ tools: ['slack'], reason }] } } }), callOf())).toEqual({
      verdict: 'deny',
      code: 'policy.denied',
      rule: 'policy/p',
      reason,
      remediation: 'Change spec.tools.denied[0] of policy/p, or do without the call.',
    })
    expect(verdictOf(rulesOf({}, { r: ELSE }), callOf({ own: { roles: ['r'] } }))).toEqual({
      verdict: 'deny',
      code: 'tool.permission_denied',
      rule: 'role/r',
      reason: 'no role of agent writer permits slack (write)',
      remediation: 'Give role/r a permission, such as { tools: [slack], operations: [write] } in spec.permissions.',
    })
  })

  test('names every rule that was looked at, with what it said', () => {
    const { looked } = judgeCall(
      rulesOf(
        { a: { appliesTo: { agents: ['x'] }, ...DENIES }, b: { models: { localOnly: true } }, c: ASKS },
        { r: PERMITS },
      ),
      callOf({ own: { roles: ['r'] } }),
      RUN,
    )
    expect(looked.map(({ rule, part, says }) => [rule, part, says])).toEqual([
      ['policy/a', null, 'not_applied'],
      ['policy/b', null, 'nothing'],
      ['policy/c', 'tools.approval[0]', 'approval'],
      ['role/r', 'permissions[0]', 'allow'],
    ])
  })
})

describe('an error denies', () => {
  test('a policy that cannot be read, naming it', () => {
    const rules = rulesOf({ broken: { tools: { denied: 'all' } } })
    expect(verdictOf(rules, callOf({ operation: 'read' }))).toMatchObject({
      verdict: 'deny',
      code: 'policy.denied',
      rule: 'policy/broken',
      reason: expect.stringContaining('policy/broken cannot be read'),
    })
  })

  test('a role that cannot be read, for those who have it alone', () => {
    const rules = rulesOf({}, { broken: { permissions: 'all' }, r: PERMITS })
    expect(verdictOf(rules, callOf({ own: { roles: ['r', 'broken'] } }))).toMatchObject({
      verdict: 'deny',
      rule: 'role/broken',
    })
    expect(verdictOf(rules, callOf({ own: { roles: ['r'] } })).verdict).toBe('allow')
  })

  test('rules that could not be had at all, or too many of them', () => {
    expect(verdictOf(unreadableRules('the database is away'), callOf({ operation: 'read' }))).toMatchObject({
      verdict: 'deny',
      reason: expect.stringContaining('the database is away'),
    })
    const many = Array.from({ length: 2_001 }, (_, i) => readPolicyRow(rowOf('Policy', `p${i}`, ASKS)))
    expect(verdictOf(ruleSetOf('default', many, []), callOf()).verdict).toBe('deny')
  })

  test('whatever is wrong with a question', () => {
    const broken = { ...callOf(), own: { ...OWN, roles: null } } as unknown as AskedCall
    expect(verdictOf(rulesOf({}), broken)).toMatchObject({ verdict: 'deny', code: 'policy.denied' })
  })
})

// Rules, questions and runs from few names, so that they meet.
const names = fc.constantFrom('slack', 'mail', 's*', '*')
const operations = fc.subarray(['read', 'write', 'delete', 'admin'] as const, { minLength: 1 })
const callRule = fc.record(
  { tools: fc.array(names, { minLength: 1, maxLength: 2 }), operations },
  { requiredKeys: ['tools'] },
)
const approvers = fc.record({ approvers: fc.subarray(['ann', 'bob'], { minLength: 1 }) }, { requiredKeys: [] })
const approvalRule = fc.tuple(callRule, approvers).map(([rule, more]) => ({ ...rule, ...more }))
const some = <T>(of: fc.Arbitrary<T>) => fc.array(of, { minLength: 1, maxLength: 2 })
const policies = fc.record(
  {
    tools: fc.record(
      { allowed: some(callRule), denied: some(callRule), approval: some(approvalRule), requireRoles: fc.boolean() },
      { requiredKeys: [] },
    ),
    appliesTo: fc.record({ agents: fc.constantFrom(['writer'], ['reader']) }, { requiredKeys: [] }),
  },
  { requiredKeys: [] },
)
const roleRule = fc.oneof(
  fc.record({ tools: some(names), operations, verdict: fc.constantFrom('allow', 'deny') }),
  approvalRule.map((rule) => ({ ...rule, verdict: 'approval' })),
)
const roles = fc.record(
  { permissions: some(fc.record({ tools: some(names), operations })), rules: some(roleRule) },
  { requiredKeys: [] },
)
const asked = fc
  .record({
    tool: fc.constantFrom('slack', 'mail', 'other'),
    operation: fc.constantFrom('read', 'write', 'delete', 'admin'),
    roles: fc.subarray(['r0', 'r1', 'r2']),
    approval: fc.constantFrom('always', 'by-rule'),
  })
  .map(({ tool, operation, ...own }) =>
    callOf({ tool, operation: operation as AskedCall['operation'], own: own as Partial<OwnRules> }),
  )
const numbered = (prefix: string, of: JsonObject[]): Record<string, JsonObject> =>
  Object.fromEntries(of.map((spec, i) => [`${prefix}${i}`, spec]))
const scene = fc.record({
  policies: fc.array(policies, { maxLength: 3 }),
  roles: fc.array(roles, { minLength: 0, maxLength: 3 }),
  asked,
})
const SEVERITY = { allow: 0, approval: 1, deny: 2 }

describe('whatever the rules are', () => {
  test('the specs that these tests are made of are ones that can be stored', () => {
    fc.assert(
      fc.property(
        policies,
        roles,
        (policy, role) => policySpecSchema.safeParse(policy).success && roleSpecSchema.safeParse(role).success,
      ),
    )
  })

  test('one more policy, and one more rule that denies, never let more pass', () => {
    fc.assert(
      fc.property(
        scene,
        policies,
        callRule,
        fc.nat(2),
        ({ policies: all, roles: own, asked: call }, more, deny, at) => {
          const before =
            SEVERITY[
              verdictOf(rulesOf(numbered('p', all as JsonObject[]), numbered('r', own as JsonObject[])), call).verdict
            ]
          const withPolicy = rulesOf(
            { ...numbered('p', all as JsonObject[]), more: more as JsonObject },
            numbered('r', own as JsonObject[]),
          )
          expect(SEVERITY[verdictOf(withPolicy, call).verdict]).toBeGreaterThanOrEqual(before)
          const stricter = own.map((role, i) =>
            i === at ? { ...role, rules: [...(role.rules ?? []), { ...deny, verdict: 'deny' }] } : role,
          )
          const withDeny = rulesOf(numbered('p', all as JsonObject[]), numbered('r', stricter as JsonObject[]))
          expect(SEVERITY[verdictOf(withDeny, call).verdict]).toBeGreaterThanOrEqual(before)
        },
      ),
      { numRuns: 500 },
    )
  })

  test('their order changes no verdict', () => {
    fc.assert(
      fc.property(scene, ({ policies: all, roles: own, asked: call }) => {
        const given = all.map((spec, i) => readPolicyRow(rowOf('Policy', `p${i}`, spec as JsonObject)))
        const roleRows = own.map((spec, i) => readRoleRow(rowOf('Role', `r${i}`, spec as JsonObject)))
        const turned = (spec: JsonObject): JsonObject =>
          Object.fromEntries(
            Object.entries(spec).map(([key, value]) => [key, Array.isArray(value) ? value.toReversed() : value]),
          )
        const other = all.map((spec, i) => {
          const { tools, ...rest } = spec as JsonObject
          return readPolicyRow(
            rowOf('Policy', `p${i}`, tools === undefined ? rest : { ...rest, tools: turned(tools as JsonObject) }),
          )
        })
        const otherRoles = own.map((spec, i) => readRoleRow(rowOf('Role', `r${i}`, turned(spec as JsonObject))))
        const one = verdictOf(ruleSetOf('default', given, roleRows), call)
        const roleNames = call.own?.roles.toReversed() ?? []
        const back = callOf({ tool: call.tool, operation: call.operation, own: { ...call.own, roles: roleNames } })
        const two = verdictOf(ruleSetOf('default', other.toReversed(), otherRoles.toReversed()), back)
        const told = (verdict: Verdict) => (verdict.verdict === 'deny' ? [verdict.code, verdict.rule] : verdict)
        expect(told(two)).toEqual(told(one))
      }),
      { numRuns: 500 },
    )
  })

  test('a rule that became unreadable lets nothing pass that it held for', () => {
    fc.assert(
      fc.property(scene, fc.nat(2), ({ policies: all, roles: own, asked: call }, at) => {
        fc.pre(all.length > at && all[at]?.appliesTo === undefined)
        const broken = all.map((spec, i) => (i === at ? { tools: 7 } : (spec as JsonObject)))
        const verdict = verdictOf(rulesOf(numbered('p', broken), numbered('r', own as JsonObject[])), call)
        expect(verdict.verdict).toBe('deny')
      }),
    )
  })
})
