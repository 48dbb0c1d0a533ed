import { expectTypeOf, test } from 'vitest'
import type { z } from 'zod'
import type * as access from './access-schemas.ts'
import type * as api from './api-types.ts'
import type * as memories from './memory-schemas.ts'
import type * as memory from './memory-types.ts'
import type * as resource from './resource-schemas.ts'
import type * as types from './resource-types.ts'
import type * as rules from './rule-schemas.ts'
import type * as s from './schemas.ts'

/** What the types promise is what the schemas describe: the same members, each fitting. */
test('the types of answers are those of the schemas that describe them', () => {
  expectTypeOf<api.RunSummary>().toExtend<z.output<typeof s.RunSummarySchema>>()
  expectTypeOf<keyof api.RunSummary>().toEqualTypeOf<keyof z.output<typeof s.RunSummarySchema>>()
  expectTypeOf<api.StepView>().toExtend<z.output<typeof s.StepViewSchema>>()
  expectTypeOf<keyof api.StepView>().toEqualTypeOf<keyof z.output<typeof s.StepViewSchema>>()
  expectTypeOf<api.RunView>().toExtend<z.output<typeof s.RunViewSchema>>()
  expectTypeOf<keyof api.RunView>().toEqualTypeOf<keyof z.output<typeof s.RunViewSchema>>()
  expectTypeOf<api.ApprovalView>().toExtend<z.output<typeof s.ApprovalViewSchema>>()
  expectTypeOf<keyof api.ApprovalView>().toEqualTypeOf<keyof z.output<typeof s.ApprovalViewSchema>>()
  expectTypeOf<api.ArtifactView>().toExtend<z.output<typeof s.ArtifactViewSchema>>()
  expectTypeOf<keyof api.ArtifactView>().toEqualTypeOf<keyof z.output<typeof s.ArtifactViewSchema>>()
  expectTypeOf<api.RunEvent & { terminal: boolean }>().toExtend<z.output<typeof s.RunEventSchema>>()
  expectTypeOf<keyof (api.RunEvent & { terminal: boolean })>().toEqualTypeOf<keyof z.output<typeof s.RunEventSchema>>()
  expectTypeOf<api.StatusView>().toExtend<z.output<typeof s.StatusViewSchema>>()
  expectTypeOf<keyof api.StatusView>().toEqualTypeOf<keyof z.output<typeof s.StatusViewSchema>>()
  expectTypeOf<api.Nudged>().toExtend<z.output<typeof s.NudgedSchema>>()
  expectTypeOf<keyof api.Nudged>().toEqualTypeOf<keyof z.output<typeof s.NudgedSchema>>()
  expectTypeOf<api.SentEventView>().toExtend<z.output<typeof s.SentEventSchema>>()
  expectTypeOf<keyof api.SentEventView>().toEqualTypeOf<keyof z.output<typeof s.SentEventSchema>>()
  expectTypeOf<api.SecretDetail>().toExtend<z.output<typeof s.SecretDetailSchema>>()
  expectTypeOf<keyof api.SecretDetail>().toEqualTypeOf<keyof z.output<typeof s.SecretDetailSchema>>()
  expectTypeOf<memory.MemoryEntryView>().toExtend<z.output<typeof memories.MemoryEntryViewSchema>>()
  expectTypeOf<keyof memory.MemoryEntryView>().toEqualTypeOf<keyof z.output<typeof memories.MemoryEntryViewSchema>>()
  expectTypeOf<memory.MemoryEntryDetail>().toExtend<z.output<typeof memories.MemoryEntryDetailSchema>>()
  expectTypeOf<keyof memory.MemoryEntryDetail>().toEqualTypeOf<
    keyof z.output<typeof memories.MemoryEntryDetailSchema>
  >()
  expectTypeOf<memory.MemoryFoundView>().toExtend<z.output<typeof memories.MemoryFoundSchema>>()
  expectTypeOf<api.TokenView>().toExtend<z.output<typeof access.TokenViewSchema>>()
  expectTypeOf<keyof api.TokenView>().toEqualTypeOf<keyof z.output<typeof access.TokenViewSchema>>()
  expectTypeOf<api.WhoamiView>().toExtend<z.output<typeof access.WhoamiSchema>>()
  expectTypeOf<keyof api.WhoamiView>().toEqualTypeOf<keyof z.output<typeof access.WhoamiSchema>>()
  expectTypeOf<api.AuditView>().toExtend<z.output<typeof access.AuditViewSchema>>()
  expectTypeOf<keyof api.AuditView>().toEqualTypeOf<keyof z.output<typeof access.AuditViewSchema>>()
  expectTypeOf<types.ResourceView>().toExtend<z.output<typeof resource.ResourceViewSchema>>()
  expectTypeOf<keyof types.ResourceView>().toEqualTypeOf<keyof z.output<typeof resource.ResourceViewSchema>>()
  expectTypeOf<types.ApplyResponse>().toExtend<z.output<typeof resource.ApplyResponseSchema>>()
  expectTypeOf<keyof types.ApplyResponse>().toEqualTypeOf<keyof z.output<typeof resource.ApplyResponseSchema>>()
  expectTypeOf<api.AgentCheck>().toExtend<z.output<typeof rules.AgentCheckSchema>>()
  expectTypeOf<keyof api.AgentCheck>().toEqualTypeOf<keyof z.output<typeof rules.AgentCheckSchema>>()
})
