"""Names of months and weekdays: English ones, which are parsed, and foreign ones, which are recognized."""

# `calendar` would use the names of the process' locale.
MONTH_NAMES = ["January", "February", "March", "April", "May", "June", "July", "August", "September"]
MONTH_NAMES += ["October", "November", "December"]
DAY_NAMES = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = {name.lower(): number for number, name in enumerate(MONTH_NAMES, 1)}
MONTHS |= {name[:3]: number for name, number in MONTHS.items()} | {"sept": 9}
WEEKDAYS = {name.lower(): number for number, name in enumerate(DAY_NAMES)}
WEEKDAYS |= {name[:3]: number for name, number in WEEKDAYS.items()} | {"tues": 1, "thur": 3, "thurs": 3}

# Dates in these languages are not parsed, but they are distinguished from other words: German, French,
# Spanish, Italian, Portuguese, Dutch, the Scandinavian languages, Polish, Czech, Russian, Turkish.
_MONTH_WORDS = """
    januar jänner feber februar märz maerz mai juni juli oktober dezember mär okt dez
    janvier février fevrier mars avril juin juillet août aout septembre octobre novembre décembre decembre
    enero febrero marzo abril mayo junio julio agosto septiembre setiembre octubre noviembre diciembre
    gennaio febbraio aprile maggio giugno luglio settembre ottobre dicembre
    janeiro fevereiro março marco maio junho julho setembro outubro novembro dezembro
    januari februari maart mei augustus desember marts juni kesäkuu
    stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia
    ledna února března dubna května června července srpna září října listopadu prosince
    января февраля марта апреля мая июня июля августа сентября октября ноября декабря
    ocak şubat mart nisan mayıs haziran temmuz ağustos eylül ekim kasım aralık
"""
_WEEKDAY_WORDS = """
    montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag
    lundi mardi mercredi jeudi vendredi samedi dimanche
    lunes martes miércoles miercoles jueves viernes sábado sabado domingo
    lunedì martedì mercoledì giovedì venerdì sabato domenica
    segunda terça quarta quinta sexta feira
    maandag dinsdag woensdag donderdag vrijdag zaterdag zondag
    mandag tirsdag onsdag torsdag fredag lørdag søndag måndag tisdag lördag söndag
    понедельник вторник среда четверг пятница суббота воскресенье
"""
FOREIGN_MONTHS = frozenset(_MONTH_WORDS.split())
FOREIGN_WEEKDAYS = frozenset(_WEEKDAY_WORDS.split())


def alternatives(names: dict[str, int]) -> str:
    """The names as alternatives of a regular expression, longer ones first."""
    return "|".join(sorted(names, key=len, reverse=True))
