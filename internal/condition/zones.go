package condition

import (
	"sync"
	"time"
	_ "time/tzdata" // the zones are the same on every machine

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// zones holds the time zones that conditions name. They are loaded when an
// expression is compiled, never while one is judged: the standard functions of
// CEL load them anew at every call.
type zones struct{ known sync.Map }

// load makes a zone of the IANA database known.
func (z *zones) load(name string) bool {
	if _, ok := z.known.Load(name); ok {
		return true
	}
	if name == "" || name == "Local" {
		return false
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return false
	}
	z.known.Store(name, loc)
	return true
}

func (z *zones) find(name string) (*time.Location, bool) {
	v, ok := z.known.Load(name)
	if !ok {
		return nil, false
	}
	loc, ok := v.(*time.Location)
	return loc, ok
}

// calendar is one function of a timestamp that takes a time zone.
type calendar struct {
	function, overload string
	of                 func(time.Time) int
}

func calendars() []calendar {
	return []calendar{
		{overloads.TimeGetFullYear, overloads.TimestampToYearWithTz, time.Time.Year},
		{overloads.TimeGetMonth, overloads.TimestampToMonthWithTz, func(t time.Time) int { return int(t.Month()) - 1 }},
		{overloads.TimeGetDayOfYear, overloads.TimestampToDayOfYearWithTz, func(t time.Time) int { return t.YearDay() - 1 }},
		{overloads.TimeGetDayOfMonth, overloads.TimestampToDayOfMonthZeroBasedWithTz, func(t time.Time) int { return t.Day() - 1 }},
		{overloads.TimeGetDate, overloads.TimestampToDayOfMonthOneBasedWithTz, time.Time.Day},
		{overloads.TimeGetDayOfWeek, overloads.TimestampToDayOfWeekWithTz, func(t time.Time) int { return int(t.Weekday()) }},
		{overloads.TimeGetHours, overloads.TimestampToHoursWithTz, time.Time.Hour},
		{overloads.TimeGetMinutes, overloads.TimestampToMinutesWithTz, time.Time.Minute},
		{overloads.TimeGetSeconds, overloads.TimestampToSecondsWithTz, time.Time.Second},
		{overloads.TimeGetMilliseconds, overloads.TimestampToMillisecondsWithTz, func(t time.Time) int {
			return t.Nanosecond() / int(time.Millisecond)
		}},
	}
}

// options are the standard functions of CEL with the ones that take a time zone
// replaced by ours, and without dyn and type: everything has one known type.
func (z *zones) options() []cel.EnvOption {
	subset := env.NewLibrarySubset().AddExcludedFunctions(
		env.NewFunction(overloads.TypeConvertDyn), env.NewFunction(overloads.TypeConvertType))
	out := []cel.EnvOption{cel.StdLib(cel.StdLibSubset(subset))}
	for _, c := range calendars() {
		subset.AddExcludedFunctions(env.NewFunction(c.function, &env.Overload{ID: c.overload}))
		out = append(out, cel.Function(c.function, cel.MemberOverload("pim_"+c.overload,
			[]*cel.Type{cel.TimestampType, cel.StringType}, cel.IntType, cel.BinaryBinding(z.binding(c.of)))))
	}
	return out
}

func (z *zones) binding(of func(time.Time) int) func(ref.Val, ref.Val) ref.Val {
	return func(at, zone ref.Val) ref.Val {
		t, isTime := at.(types.Timestamp)
		name, isText := zone.(types.String)
		loc, known := z.find(string(name))
		if !isTime || !isText || !known {
			return types.NewErr("not a time zone")
		}
		return types.Int(of(t.In(loc)))
	}
}
