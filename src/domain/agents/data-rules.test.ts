import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Failure } from '../failure.ts'
import { DATA_KIND_NAMES, type DataKindName } from './data-kinds.ts'
import {
  answerStream,
  applyDataRules,
  applyDataRulesTo,
  type DataRule,
  type DataRules,
  openPseudonyms,
  type Pseudonyms,
  restoreText,
  restoreValue,
  restoringStream,
} from './data-rules.ts'

const ruleOf = (name: string, more: Partial<DataRule> = {}): DataRule => ({
  rule: 'policy/data',
  name,
  find: { kind: name as DataKindName },
  action: 'redact',
  on: ['prompts'],
  salt: 'salt',
  ...more,
})
const rulesOf = (...rules: DataRule[]): DataRules => ({ rules, egress: [] })
const fresh = () => openPseudonyms('run_1.0/1')
const applyTo = (text: string, rules: DataRules, pseudonyms: Pseudonyms = fresh()) => {
  const { texts, ...rest } = applyDataRules([{ place: 'message 1', text }], 'prompts', rules, pseudonyms)
  return { text: texts[0] ?? '', ...rest }
}

describe('data known by name', () => {
  test.for<[DataKindName, string, string]>([
    ['email', 'mail ann.b+x@mail.example.org, not ann@ or @b', 'mail [redacted: email], not ann@ or @b'],
    ['phone', 'call +49 (30) 123-4567 or 12345', 'call [redacted: phone] or 12345'],
    ['credit-card', '4111 1111 1111 1111 and 4111 1111 1111 1112', '[redacted: credit-card] and 4111 1111 1111 1112'],
    ['iban', 'DE89 3704 0044 0532 0130 00; DE89370400440532013001', '[redacted: iban]; DE89370400440532013001'],
    ['ip-address', '192.168.2.10 and 999.1.1.1', '[redacted: ip-address] and 999.1.1.1'],
    ['us-ssn', '123-45-6789 and 000-45-6789', '[redacted: us-ssn] and 000-45-6789'],
    ['jwt', 'Bearer eyJhbGciOiJI.eyJzdWIiOiIx.c2ln', 'Bearer [redacted: jwt]'],
    [
      'private-key',
      'a -----BEGIN RSA PRIVATE KEY-----\nAbC+/=\n-----END RSA PRIVATE KEY----- b',
      'a [redacted: private-key] b',
    ],
    ['api-key', 'sk-abcdefghijklmnopqrstuv and ghp_short', '[redacted: api-key] and ghp_short'],
  ])('%s', ([name, text, wanted]) => {
    expect(applyTo(text, rulesOf(ruleOf(name))).text).toBe(wanted)
  })

  test('a private key of which the end is missing', () => {
    const text = 'a -----BEGIN PRIVATE KEY-----\nAbC+/=\nxyz'
    expect(applyTo(text, rulesOf(ruleOf('private-key'))).text).toBe('a [redacted: private-key]')
  })

  test('each of them is tried here', () => {
    expect(DATA_KIND_NAMES).toEqual([
      'email',
      'phone',
      'credit-card',
      'iban',
      'ip-address',
      'us-ssn',
      'jwt',
      'private-key',
      'api-key',
    ])
  })
})

describe('what is found', () => {
  test('is redacted, and told of by name, place and number', () => {
    const rule = ruleOf('customer', { find: { pattern: 'K-\\d{4}', ignoreCase: true } })
    expect(applyTo('k-1234 and K-9999', rulesOf(rule))).toMatchObject({
      text: '[redacted: customer] and [redacted: customer]',
      findings: [{ rule: 'policy/data', name: 'customer', action: 'redact', place: 'message 1', count: 2 }],
    })
  })

  test('stops everything when it is blocked, without the text in what is said of it', () => {
    const failed = (): unknown => {
      try {
        return applyTo('my number is 123-45-6789', rulesOf(ruleOf('us-ssn', { action: 'block' })))
      } catch (error) {
        return error
      }
    }
    const failure = failed()
    expect(failure).toBeInstanceOf(Failure)
    const record = (failure as Failure).toRecord()
    expect(record).toMatchObject({
      code: 'policy.denied',
      message: 'sending on message 1, in which us-ssn was found',
      evidence: { rule: 'policy/data', found: [{ pattern: 'us-ssn', place: 'message 1', count: 1 }] },
      remediation: expect.stringContaining('policy/data'),
    })
    expect(JSON.stringify(record)).not.toContain('6789')
  })

  test('is looked for only where the rule says', () => {
    const rules = rulesOf(ruleOf('email', { on: ['tools'] }))
    expect(applyTo('a@b.example', rules).text).toBe('a@b.example')
    expect(applyDataRules([{ place: 'input', text: 'a@b.example' }], 'tools', rules, fresh()).texts).toEqual([
      '[redacted: email]',
    ])
  })

  test('by two rules is under the stricter one, whole, in whatever order they stand', () => {
    const host = ruleOf('host', { find: { pattern: '[a-z]+\\.example/path', ignoreCase: false }, action: 'redact' })
    const email = ruleOf('email', { action: 'pseudonymise' })
    const text = 'write ann@mail.example/path now'
    expect(applyTo(text, rulesOf(host, email)).text).toBe('write [redacted: host] now')
    expect(applyTo(text, rulesOf(email, host)).text).toBe('write [redacted: host] now')
  })

  test('in a value is found in all of its texts, keys and numbers too', () => {
    const rules = rulesOf(ruleOf('email'), ruleOf('credit-card'))
    const value = { 'a@b.example': [4111111111111111, 12, { note: 'c@d.example' }], plain: true }
    expect(applyDataRulesTo(value, 'input', 'prompts', rules, fresh()).value).toEqual({
      '[redacted: email]': ['[redacted: credit-card]', 12, { note: '[redacted: email]' }],
      plain: true,
    })
  })

  test('with a pattern that cannot be read, nothing goes on', () => {
    const broken = ruleOf('broken', { find: { pattern: '(a', ignoreCase: false } })
    expect(() => applyTo('harmless', rulesOf(broken))).toThrow(
      expect.objectContaining({ code: 'policy.denied', evidence: expect.objectContaining({ pattern: 'broken' }) }),
    )
  })
})

describe('a pseudonym', () => {
  const rules = rulesOf(ruleOf('email', { action: 'pseudonymise' }))

  test('goes out in place of the original and comes back as it, in texts and in arguments of tools', () => {
    const { text, pseudonyms } = applyTo('mail ann@b.example and bob@b.example, then ann@b.example', rules)
    const [ann, bob, again] = text.match(/EMAIL_[a-z2-7]{10}/g) ?? []
    expect(text).not.toContain('@')
    expect([ann === again, ann === bob]).toEqual([true, false])
    expect(restoreText(`${ann}: hello`, pseudonyms)).toBe('ann@b.example: hello')
    expect(restoreValue({ to: [`<${bob}>`], [ann ?? '']: 1 }, pseudonyms)).toEqual({
      to: ['<bob@b.example>'],
      'ann@b.example': 1,
    })
    expect(restoreText('EMAIL_aaaaaaaaaa', pseudonyms)).toBe('EMAIL_aaaaaaaaaa')
  })

  test('is the same in every attempt of the activation, in whatever order texts come, and another one elsewhere', () => {
    const first = applyTo('ann@b.example bob@b.example', rules)
    const second = applyTo('bob@b.example', rules)
    expect(first.text).toContain(second.text)
    const elsewhere = applyTo('bob@b.example', rules, openPseudonyms('run_2.0/1'))
    expect(elsewhere.text).not.toBe(second.text)
    const otherSalt = applyTo('bob@b.example', rulesOf(ruleOf('email', { action: 'pseudonymise', salt: 'pepper' })))
    expect(otherSalt.text).not.toBe(second.text)
  })

  test('is itself no find, whatever else is looked for; nor is what stands for something redacted', () => {
    const word = ruleOf('red', { find: { pattern: '[a-z2-7]{3}', ignoreCase: true }, on: ['prompts'] })
    const one = applyTo('ann@b.example', rules)
    const more = rulesOf(word, ...rules.rules)
    expect(applyTo(`- ${one.text} -`, more, one.pseudonyms).text).toBe(`- ${one.text} -`)
    expect(applyTo('[redacted: red]', more, one.pseudonyms).text).toBe('[redacted: red]')
  })

  test('that comes in pieces is restored as a whole, and nothing is held for long', () => {
    const { text, pseudonyms } = applyTo('to ann@b.example, and more', rules)
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 8 }), (cuts) => {
        const stream = restoringStream(pseudonyms)
        const at = [0, ...cuts.toSorted((a, b) => a - b), text.length]
        const shown = at.slice(1).map((end, i) => stream.push(text.slice(at[i], end)))
        expect(shown.join('') + stream.end()).toBe('to ann@b.example, and more')
      }),
    )
    const stream = restoringStream(pseudonyms)
    expect(stream.push('to be ')).toBe('to be ')
    expect(stream.push('x'.repeat(1_000)).length).toBeGreaterThan(900)
  })
})

describe('an answer that comes in pieces', () => {
  const rules = rulesOf(
    ruleOf('email', { on: ['answers'] }),
    ruleOf('cat', { find: { pattern: '\\bcats?\\b', ignoreCase: false }, on: ['answers'] }),
    ruleOf('digits', { find: { pattern: '\\d{3,5}', ignoreCase: false }, on: ['answers'] }),
  )

  test('is treated as the whole would be, wherever it is cut', () => {
    const parts = fc.array(fc.constantFrom('cat', 's', ' ', 'a@b', '.example', '12', '3456', '😀', 'x', '-'), {
      maxLength: 12,
    })
    fc.assert(
      fc.property(parts, fc.integer({ min: 1, max: 4 }), (all, size) => {
        const text = all.join('')
        const whole = applyDataRules([{ place: 'answer', text }], 'answers', rules, fresh())
        const stream = answerStream('answer', rules, fresh())
        let shown = ''
        for (let at = 0; at < text.length; at += size) shown += stream.push(text.slice(at, at + size))
        expect(shown + stream.end()).toBe(whole.texts[0])
      }),
      { numRuns: 500 },
    )
  })

  test('is shown as soon as nothing more can be found in it', () => {
    const stream = answerStream('answer', rules, fresh())
    expect(stream.push('hello, ')).toBe('hello, ')
    expect(stream.push('ca')).toBe('')
    expect(stream.push('r and ')).toBe('car and ')
    expect([stream.push('12'), stream.push('3 '), stream.end()].join('')).toBe('[redacted: digits] ')
    expect(stream.findings).toMatchObject([{ name: 'digits', count: 1 }])
  })

  test('ends where something is blocked, before any of it is shown', () => {
    const blocking = rulesOf(ruleOf('us-ssn', { action: 'block', on: ['answers'] }))
    const stream = answerStream('answer', blocking, fresh())
    expect(stream.push('it is 123-45-')).toBe('it is ')
    expect(() => stream.push('6789 ')).toThrow(expect.objectContaining({ code: 'policy.denied' }))
  })

  test('that is one long maybe is not looked at anew with every piece', () => {
    const greedy = rulesOf(ruleOf('all', { find: { pattern: 'a[^b]*b', ignoreCase: false }, on: ['answers'] }))
    const stream = answerStream('answer', greedy, fresh())
    for (let i = 0; i < 20_000; i++) expect(stream.push('aaaaaaaaaa')).toBe('')
    expect(stream.end()).toHaveLength(200_000)
  })
})
